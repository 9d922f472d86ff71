"""``neighbour_map`` on CPUs: both sets are walked in sorted order, so memory is read forwards only.

Around voxels in ascending order, the places at one (x, y) offset of the kernel ascend too. One pointer into the
sorted keys for each such offset moves forwards only and finds all taps along z in a few steps.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.threads import in_chunks

CHUNK = 8192
HALF = 1 << 15


def forward(coords: Tensor, queries: Tensor | None, kx: int, ky: int, kz: int, stride: int, dilation: int) -> Tensor:
    """The map, int32 [M, V]."""
    keys, index = _sorted(coords)
    asked = coords if queries is None else queries
    order = index if queries is None else _sorted(queries)[1]
    out = torch.empty(asked.shape[0], kx * ky * kz, dtype=torch.int32)
    rows, target = asked.contiguous().numpy(), out.numpy()
    kernel = np.array([kx, ky, kz, stride, dilation], np.int64)
    in_chunks(lambda start, stop: _match(keys, index, rows, order, kernel, target, start, stop), len(rows), CHUNK)
    return out


def _sorted(coords: Tensor) -> tuple[Any, Any]:
    """Packed coordinates in ascending order, and where they stood; equal ones keep their order."""
    keys = np.empty(coords.shape[0], np.int64)
    if _pack(coords.contiguous().numpy(), keys):
        return keys, np.arange(len(keys), dtype=np.int64)
    values, index = torch.from_numpy(keys).sort(stable=True)
    return values.numpy(), index.numpy()


@njit(cache=True, nogil=True)
def _pack(coords, keys):  # type: ignore[no-untyped-def]
    """Write packed coordinates; gives whether they ascend already."""
    ascending = True
    for i in range(len(keys)):
        key = np.int64(coords[i, 0])
        for axis in range(1, 4):
            key = (key << 16) | (np.int64(coords[i, axis]) + HALF)
        keys[i] = key
        ascending &= i == 0 or keys[i - 1] <= key
    return ascending


@njit(cache=True, nogil=True)
def _match(keys, index, queries, order, kernel, out, start, stop):  # type: ignore[no-untyped-def]
    """Rows ``order[start:stop]`` of the map."""
    kx, ky, kz, stride, dilation = kernel
    pointers = np.full(kx * ky, -1, np.int64)
    for r in range(start, stop):
        row = order[r]
        batch = np.int64(queries[row, 0])
        x0 = queries[row, 1] * stride - ((kx - 1) // 2) * dilation + HALF
        y0 = queries[row, 2] * stride - ((ky - 1) // 2) * dilation + HALF
        z0 = queries[row, 3] * stride - ((kz - 1) // 2) * dilation + HALF
        for column in range(kx * ky):
            x, y = x0 + column // ky * dilation, y0 + column % ky * dilation
            taps = out[row, column * kz : (column + 1) * kz]
            if x < 0 or x >= 2 * HALF or y < 0 or y >= 2 * HALF:
                taps[:] = -1  # a field must not overflow into the next
                continue
            base = ((batch << 16 | x) << 16 | y) << 16
            first = base + max(0, min(z0, 2 * HALF - 1))
            if pointers[column] < 0:
                pointers[column] = np.searchsorted(keys, first)
            pointers[column] = _advance(keys, pointers[column], first)
            _match_run(keys, index, pointers[column], base, z0, dilation, taps)


@njit(cache=True, nogil=True)
def _advance(keys, place, target):  # type: ignore[no-untyped-def]
    """The first place from ``place`` on whose key is not below ``target``."""
    while place < len(keys) and keys[place] < target:
        place += 1
    return place


@njit(cache=True, nogil=True)
def _match_run(keys, index, place, base, z0, dilation, taps):  # type: ignore[no-untyped-def]
    """Taps along z, from a place that is not beyond the first of them."""
    for k in range(len(taps)):
        z = z0 + k * dilation
        taps[k] = -1
        if 0 <= z < 2 * HALF:
            place = _advance(keys, place, base + z)
            if place < len(keys) and keys[place] == base + z:
                taps[k] = index[place]
