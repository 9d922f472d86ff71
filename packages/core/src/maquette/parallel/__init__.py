"""Parallelism: which processes share what. Models are single-device code; everything here happens outside them."""
