"""Looks at a machine before it is trusted with a run, and says what is wrong and what to do."""
