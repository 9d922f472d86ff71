"""``sample_sparse_trilinear`` on a CPU: voxels in a hash table of bricks, compiled by numba.

A brick is 4 x 4 x 4 places for voxel numbers. A cell lies in two bricks on average, so a point costs two
searches of the table, not eight.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.sampling import taps_cpu
from maquette_kernels.sampling.sample_sparse_trilinear.reference import BATCHES, LIMIT, working_dtype
from maquette_kernels.sampling.taps_cpu import CHUNK, plain
from maquette_kernels.threads import in_chunks

SIDE = 32768
"""Added to coordinates so that none is negative."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(inline="always")
def _brick(element, x, y, z):
    """Key of the brick that holds a voxel, from coordinates that are not negative."""
    return (((element << 14 | x >> 2) << 14) | y >> 2) << 14 | z >> 2


@njit(inline="always")
def _slot(key, table, shift):
    """Where a key stands in the table, or the empty slot where it would."""
    slot = np.int64((np.uint64(key) * GOLDEN) >> np.uint64(shift))
    while table[slot, 0] != key and table[slot, 0] != -1:
        slot = (slot + 1) & (table.shape[0] - 1)
    return slot


@njit(cache=True, nogil=True)
def _number_bricks(coords, table, shift, brick_of):
    """Enter the bricks of all voxels into an empty table; gives how many there are."""
    count = 0
    for n in range(coords.shape[0]):
        element, x, y, z = coords[n, 0], coords[n, 1] + SIDE, coords[n, 2] + SIDE, coords[n, 3] + SIDE
        brick_of[n] = -1
        if 0 <= element < BATCHES and min(x, y, z) >= 0 and max(x, y, z) < 2 * SIDE:
            key = _brick(element, x, y, z)
            slot = _slot(key, table, shift)
            if table[slot, 0] == -1:
                table[slot, 0], table[slot, 1] = key, count
                count += 1
            brick_of[n] = table[slot, 1]
    return count


@njit(cache=True, nogil=True)
def _fill_bricks(coords, brick_of, bricks):
    for n in range(coords.shape[0]):
        if brick_of[n] >= 0:
            bricks[brick_of[n], (coords[n, 1] & 3) << 4 | (coords[n, 2] & 3) << 2 | (coords[n, 3] & 3)] = n


@njit(inline="always")
def _cell(points, p, at, low, high):
    """Lowest corner of a point's cell, counted from ``-SIDE``, and the weights of both ends of its sides; False
    for a point too far out.
    """
    for axis in range(3):
        value = points[p, axis]
        if not abs(value) < LIMIT:
            return False
        base = np.floor(value)
        at[axis], low[axis], high[axis] = np.int64(base) + SIDE, base + 1 - value, value - base
    return True


@njit(cache=True, nogil=True)
def _locate(points, batch, table, shift, bricks, index, weights, renormalise, start, stop):
    at, found = np.empty(3, np.int64), np.empty(8, np.int64)
    low, high = np.empty(3, points.dtype), np.empty(3, points.dtype)
    for p in range(start, stop):
        element = np.int64(batch[p]) if batch.shape[0] else 0
        for corner in range(8):
            index[p, corner], weights[p, corner] = -1, 0
        if _cell(points, p, at, low, high) and 0 <= element < BATCHES:
            _look_up(element, at, table, shift, bricks, found, index[p])
            _weigh(low, high, index[p], weights[p], renormalise)


@njit
def _look_up(element, at, table, shift, bricks, found, index):
    """Voxel at each corner of a cell; a corner that shares its brick with an earlier one asks no table."""
    straddled = (at[0] & 3 == 3) << 2 | (at[1] & 3 == 3) << 1 | (at[2] & 3 == 3)
    for corner in range(8):
        x, y, z = at[0] + (corner >> 2), at[1] + (corner >> 1 & 1), at[2] + (corner & 1)
        if corner & straddled == corner:
            slot = _slot(_brick(element, x, y, z), table, shift)
            found[corner] = table[slot, 1]
        brick = found[corner & straddled]
        if brick >= 0:
            index[corner] = bricks[brick, (x & 3) << 4 | (y & 3) << 2 | (z & 3)]


@njit
def _weigh(low, high, index, weights, renormalise):
    """Weights of the corners that are there."""
    total = low[0] * 0
    for corner in range(8):
        if index[corner] >= 0:
            x = high[0] if corner & 4 else low[0]
            y = high[1] if corner & 2 else low[1]
            z = high[2] if corner & 1 else low[2]
            weights[corner] = x * y * z
            total += weights[corner]
    if renormalise and total > 0:
        for corner in range(8):
            weights[corner] /= total
    return total


@njit(cache=True, nogil=True)
def _pull(points, index, dots, renormalise, out, start, stop):
    at, weights = np.empty(3, np.int64), np.empty(8, dots.dtype)
    low, high = np.empty(3, dots.dtype), np.empty(3, dots.dtype)
    for p in range(start, stop):
        out[p] = 0
        if not _cell(points, p, at, low, high):
            continue
        total = _weigh(low, high, index[p], weights, renormalise)
        mean = total * 0
        for corner in range(8):
            if renormalise and index[p, corner] >= 0:
                mean += weights[corner] * dots[p, corner]
        for corner in range(8):
            if index[p, corner] >= 0 and (total > 0 or not renormalise):
                share = (dots[p, corner] - mean) / total if renormalise else dots[p, corner]
                x = high[0] if corner & 4 else low[0]
                y = high[1] if corner & 2 else low[1]
                z = high[2] if corner & 1 else low[2]
                out[p, 0] += share * y * z if corner & 4 else -share * y * z
                out[p, 1] += share * x * z if corner & 2 else -share * x * z
                out[p, 2] += share * x * y if corner & 1 else -share * x * y


def forward(
    features: Tensor, coords: Tensor, points: Tensor, batch: Tensor | None, renormalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Features at points, then the corners' voxels and weights."""
    given = plain(points.to(working_dtype(features, points)))
    index = torch.empty((len(points), 8), dtype=torch.int32)
    weights = torch.empty((len(points), 8), dtype=working_dtype(features, points))
    found = [*_bricks(plain(coords.to(torch.int32))), index.numpy(), weights.numpy(), renormalise]
    elements = np.empty(0, np.int32) if batch is None else plain(batch.to(torch.int32))
    in_chunks(lambda start, stop: _locate(given, elements, *found, start, stop), len(points), CHUNK)
    return taps_cpu.gather(features, index, weights).to(features.dtype), index, weights


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor]:
    """Gradients of features and points."""
    features, _, points, _, renormalise = arguments
    index, weights = residuals
    assert gradients[0] is not None  # the only output
    above = gradients[0].to(weights.dtype)
    # A small total divides differences of products that are nearly equal.
    dots = plain(taps_cpu.dots(features, index, above, torch.float64 if renormalise else None))
    pulled = torch.empty(points.shape, dtype=weights.dtype)
    given = [plain(points.to(weights.dtype)), plain(index), dots, renormalise, pulled.numpy()]
    in_chunks(lambda start, stop: _pull(*given, start, stop), len(points), CHUNK)
    return taps_cpu.scatter(above, index, weights, len(features)), pulled


def _bricks(coords: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
    """The table from keys to bricks (at most half full), its shift, and the bricks' voxel numbers."""
    bits = max((2 * len(coords)).bit_length(), 4)
    table = np.full((1 << bits, 2), -1, np.int64)
    brick_of = np.empty(len(coords), np.int32)
    count = _number_bricks(coords, table, 64 - bits, brick_of)
    bricks = np.full((count, 64), -1, np.int32)
    _fill_bricks(coords, brick_of, bricks)
    return table, 64 - bits, bricks
