"""From noise to data: times, steps, guidance."""
