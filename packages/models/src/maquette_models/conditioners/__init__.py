"""From what was asked for to condition tokens."""
