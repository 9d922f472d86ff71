"""Changing a given mesh: a region regenerated, a variation, a shape between two."""
