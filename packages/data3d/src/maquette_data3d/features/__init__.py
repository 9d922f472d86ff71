"""What a sample holds: each group of arrays is a feature, registered by name."""
