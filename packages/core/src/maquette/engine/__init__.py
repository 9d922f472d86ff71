"""The step engine: what happens in one optimizer step. No Lightning inside."""
