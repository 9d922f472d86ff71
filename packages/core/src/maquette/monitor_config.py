"""The settings of `monitor`."""

from __future__ import annotations

from dataclasses import dataclass

from maquette.value_checks import at_least


@dataclass
class MonitorConfig:
    """What is looked at while a run trains."""

    profile_steps: int = 3
    """How many steps a profile covers that a signal or a file asks for."""
    accelerator: str = ""
    """Whose peak the share of used arithmetic is taken of, e.g. h200; found out where empty."""
    memory_events: int = 100_000
    """How many allocations a memory snapshot remembers."""
    hang_factor: float = 5.0
    """How many times the slowest step a process may be silent before that is a hang; 0 never takes it for one."""
    hang_seconds: float = 60.0
    """How long a process may be silent at any rate."""
    interval: float = 10.0
    """Seconds between readings of the machine and of the steps' times; 0 reads nothing."""
    journal_mb: float = 16.0
    """Megabytes of readings that a process keeps in the run's folder."""
    port: int = 0
    """Where Prometheus finds a machine's first process; the others follow. 0 exposes nothing."""
    address: str = "127.0.0.1"
    """Who may ask there: this machine alone, or e.g. 0.0.0.0 for all."""
    straggler_interval: float = 300.0
    """Seconds between comparing the ranks' speeds, at least five readings'; 0 looks for no stragglers."""
    straggler_score: float = 0.75
    """The share of the best rank's speed, or of its own best, below which a rank is reported."""

    def __post_init__(self) -> None:
        for key in ("interval", "straggler_interval", "straggler_score"):
            at_least(f"monitor.{key}", getattr(self, key), 0)
        if 0 < self.straggler_interval < 5 * self.interval:
            raise ValueError(
                f"'monitor.straggler_interval' is {self.straggler_interval}; it must be 0 or at least "
                f"{5 * self.interval:g}, five times 'monitor.interval'"
            )
        at_least("monitor.journal_mb", self.journal_mb, 0.1)
        if not 0 <= self.port <= 65535:
            raise ValueError(f"'monitor.port' is {self.port}; it must be in 0..65535")
        for key in ("profile_steps", "memory_events"):
            at_least(f"monitor.{key}", getattr(self, key), 1)
        at_least("monitor.hang_seconds", self.hang_seconds, 0.1)
        if self.hang_factor and self.hang_factor < 1:
            raise ValueError(f"'monitor.hang_factor' is {self.hang_factor}; it must be 0 or at least 1")
        if self.accelerator:
            from maquette.accelerators import accelerator

            accelerator(self.accelerator)
