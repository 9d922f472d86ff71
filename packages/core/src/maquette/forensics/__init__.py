"""What is known when a run hangs, crashes or runs out of memory: who, where, and what to do."""
