"""Closed triangle surfaces of cell-centred distance grids."""

from __future__ import annotations

import numpy as np

from maquette_kernels.surface.march import march

_CLEARANCE = 0.01  # voxels; no two vertices in one place


def extract(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The zero surface of a distance grid, closed and facing outwards.

    By the compiled core of the kernel ``marching_cubes``, without the torch around it: processes that prepare data
    need none.

    Args:
        grid: float [R, R, R] in contract order [x, y, z], cell-centred, negative inside. A surface that
            reaches the border of the grid is closed there.

    Returns:
        vertices float32 [V, 3] in the unit cube, faces int32 [F, 3]; both empty where there is no surface.
    """
    padded = np.pad(np.asarray(grid, np.float32), 1, constant_values=1.0)
    vertices, faces, _ = march(padded, 0.0, _CLEARANCE)
    return (vertices - 0.5) / np.float32(max(grid.shape)) - np.float32(0.5), faces
