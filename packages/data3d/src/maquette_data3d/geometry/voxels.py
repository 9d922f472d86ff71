"""Voxels that a surface passes through, exactly: every triangle against the boxes it could meet."""

from __future__ import annotations

import numpy as np

from maquette.errors import MaquetteError
from maquette_kernels.dual_grid.voxels import touched_cells

MOST = 1024


def sparse_voxels(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> np.ndarray:
    """Cells of the unit cube's grid, closed boxes, that any triangle touches.

    Args:
        vertices: float [V, 3] in the unit cube [-.5, .5]^3; what lies outside is left out.
        faces: int [F, 3]; faces without area count as segments or points.
        resolution: cells a side, at most 1024.

    Returns:
        int32 [n, 3], each once, in lexicographic order [x, y, z].

    Raises:
        MaquetteError: the resolution is out of range.
    """
    if not 1 <= resolution <= MOST:
        raise MaquetteError(f"sparse_voxels: resolution is {resolution}; give one from 1 to {MOST}")
    corners = (np.asarray(vertices, np.float64)[np.asarray(faces, np.int64)] + 0.5) * resolution
    return touched_cells(np.ascontiguousarray(corners), resolution)
