"""What is known of a run while it trains: speed, use of the accelerator, loss by noise level, profiles on demand."""
