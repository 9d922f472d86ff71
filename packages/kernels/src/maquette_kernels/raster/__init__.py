"""Triangles to pixels: what each pixel sees, attributes there, and edges blended so that they have gradients."""
