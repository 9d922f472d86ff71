"""Building and reading folders of shards."""
