"""Starts the processes of a run, watches them, and starts them again after a loss."""
