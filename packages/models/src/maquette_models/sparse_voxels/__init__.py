"""Surfaces, open or closed, as sparse voxels, and what encodes and generates them."""
