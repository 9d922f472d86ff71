"""``dual_grid_encode`` for CPUs: compiled loops over faces, in threads by slabs of the grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.dual_grid.dual_grid_encode.crossings import add_crossings
from maquette_kernels.dual_grid.dual_grid_encode.quadrics import ROWS, add_areas, add_borders, systems
from maquette_kernels.dual_grid.dual_grid_encode.weights import NOT_FINITE, SHIFT
from maquette_kernels.dual_grid.voxels import row_starts, touched_cells
from maquette_kernels.threads import in_chunks

SLAB = 64
SOLVED = 8192


def forward(vertices: Tensor, faces: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Voxels, points, edges and signs."""
    places = vertices.detach().numpy().astype(np.float64) + np.array(SHIFT) / resolution
    if not np.isfinite(places).all():
        raise MaquetteError(NOT_FINITE)
    triangles = faces.numpy().astype(np.int64)
    corners = np.ascontiguousarray((places[triangles] + 0.5) * resolution)
    cells = touched_cells(corners, resolution)
    heights, starts = np.ascontiguousarray(cells[:, 2]), row_starts(cells, resolution)
    found = np.zeros((len(cells), ROWS))
    surplus, met = np.zeros((len(cells), 3), np.int32), np.zeros((len(cells), 3), np.bool_)
    segments = border_segments(corners, triangles, len(places))

    def fill(first: int, stop: int) -> None:
        add_areas(corners, heights, starts, found, resolution, first, stop)
        add_crossings(corners, heights, starts, found, surplus, met, resolution, first, stop)
        add_borders(segments, heights, starts, found, resolution, first, stop)

    in_chunks(fill, resolution, SLAB)
    points = torch.from_numpy(minima(found)).to(vertices.dtype)
    signs = met & (surplus >= 0)
    return torch.from_numpy(cells), points, torch.from_numpy(met), torch.from_numpy(signs)


def border_segments(corners: np.ndarray, faces: np.ndarray, vertices: int) -> np.ndarray:
    """Edges that one face alone has, float64 [S, 2, 3], in the order of their ends; faces that name a vertex twice
    have none.
    """
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], -1)
    whole = (ends[:, :, 0] != ends[:, :, 1]).all(1)
    owner, corner = np.repeat(np.flatnonzero(whole), 3), np.tile(np.arange(3), whole.sum())
    ends = ends[whole].reshape(-1, 2)
    key = ends.min(1) * vertices + ends.max(1)
    order = np.argsort(key, kind="stable")
    start = np.flatnonzero(np.diff(key[order], prepend=-1))
    alone = order[start[np.diff(np.append(start, len(order))) == 1]]
    place = np.stack([corner[alone], (corner[alone] + 1) % 3], 1)
    return np.ascontiguousarray(corners[owner[alone][:, None], place])


def minima(quadrics: np.ndarray) -> np.ndarray:
    """The minimum of each quadric [n, 13], drawn a little to the mean of what lies in the cell, and kept in it.

    Returns:
        float64 [n, 3], 0..1 along the cell.
    """
    points = np.empty((len(quadrics), 3))

    def solve(start: int, stop: int) -> None:
        matrices, rights = np.empty((stop - start, 3, 3)), np.empty((stop - start, 3))
        systems(quadrics[start:stop], matrices, rights)
        points[start:stop] = np.clip(np.linalg.solve(matrices, rights[:, :, None])[:, :, 0], 0.0, 1.0)

    in_chunks(solve, len(quadrics), SOLVED)
    return points
