"""The numbers that define a dual grid's points, the same for every implementation."""

from __future__ import annotations

BORDER = 0.2
"""Weight of a border's length beside the planes' areas."""
CROSSING = 0.1
"""Weight of the plane at an edge's crossing, in each of the four cells around the edge."""
MEAN = 0.001
"""Weight of the mean point, relative to all area in the cell."""
SLIVER = 1e-12
"""Area that every triangle of a clipped polygon has at least, so that a touched cell has a mean point."""
SHIFT = (1.1e-6, 1.7e-6, 2.3e-6)
"""Cells by which the mesh is moved: no face of a model lies exactly in a plane of the grid, between two cells."""
NOT_FINITE = "kernel 'dual_grid_encode': a vertex is not finite; drop it and its faces"
"""What a user is told of a NaN, which belongs to no cell."""
