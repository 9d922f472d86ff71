"""The commands that use trained runs, finish assets and serve them: one file each."""
