"""What is known of a run before it starts: memory a process, arithmetic a step, traffic an axis."""
