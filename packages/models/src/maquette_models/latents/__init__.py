"""Latents of shards under a frozen autoencoder."""
