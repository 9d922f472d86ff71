"""Skeletons and skin weights for meshes that have none."""
