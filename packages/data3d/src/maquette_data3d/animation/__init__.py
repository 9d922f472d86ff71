"""Clips made by procedure (walk, run, idle, wave, ...) and how they get onto any skeleton."""
