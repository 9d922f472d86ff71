"""Shapes as dense grids."""
