"""Meshes asked from outside: closest points, winding numbers, insides, grids of signed distances.

``functions`` holds what users call. ``tree`` is the CPU's search tree, usable by itself on NumPy arrays.
"""
