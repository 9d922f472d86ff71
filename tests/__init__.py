"""The tests, which share their helpers as modules of this package."""
