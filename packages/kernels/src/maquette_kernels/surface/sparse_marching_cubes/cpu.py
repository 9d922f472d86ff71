"""Sparse marching cubes on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.surface import cases
from maquette_kernels.surface.scatter import pull_sparse
from maquette_kernels.surface.sparse_marching_cubes import march
from maquette_kernels.surface.sparse_marching_cubes.keys import HIGHEST, LOWEST, MOST_BATCHES, sorted_keys
from maquette_kernels.threads import in_chunks

_CHUNK = 65536


def forward(values: Tensor, coords: Tensor, level: float, clearance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and edges."""
    _raise_if_out_of_range(coords)
    keys, order = sorted_keys(coords)
    if bool((keys[1:] == keys[:-1]).any()):
        raise MaquetteError("kernel 'sparse_marching_cubes': two samples have the same coordinates; keep one of them")
    samples, where = values.detach().contiguous().numpy(), coords.contiguous().numpy()
    ranks, place = order.numpy(), (np.float32(level), np.float32(clearance))
    corners = np.empty((len(samples), 8), np.int32)
    sorted_samples = keys.numpy()
    in_chunks(lambda start, stop: march.find_corners(sorted_samples, corners, start, stop), len(samples), _CHUNK)
    tables = (*cases.triangles(), *cases.edges())
    kinds, marks = np.empty(len(samples), np.uint8), np.zeros((len(samples), 3), np.uint8)
    faces = np.empty((march.mark(samples, ranks, place[0], corners, tables, kinds, marks), 3), np.int32)
    numbers = np.where(marks, marks.cumsum(dtype=np.int32).reshape(marks.shape) - 1, -1).astype(np.int32)
    count = int(marks.sum(dtype=np.int64))
    vertices, edges = np.empty((count, 3), np.float32), np.empty((count, 2), np.int64)
    march.emit_vertices(samples, where, ranks, place, corners, numbers, vertices, edges)
    march.emit_faces(kinds, corners, numbers, tables, faces)
    return torch.from_numpy(vertices), torch.from_numpy(faces), torch.from_numpy(edges)


def _raise_if_out_of_range(coords: Tensor) -> None:
    if not len(coords):
        return
    low, high = coords.amin(0).tolist(), coords.amax(0).tolist()
    if low[0] < 0 or high[0] >= MOST_BATCHES or min(low[1:]) < LOWEST or max(high[1:]) > HIGHEST:
        raise MaquetteError(
            f"kernel 'sparse_marching_cubes': coords reach from {low} to {high}; batch must be in [0, {MOST_BATCHES}), "
            f"coordinates in [{LOWEST}, {HIGHEST}]"
        )


backward = pull_sparse
