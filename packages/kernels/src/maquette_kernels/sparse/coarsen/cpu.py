"""``coarsen`` on CPUs: one sort of packed parents, one pass over the sorted ones."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

HALF = 1 << 15


def forward(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse voxels, parents and octants."""
    count = coords.shape[0]
    keys, octant = np.empty(count, np.int64), torch.empty(count, dtype=torch.int32)
    _halve(coords.contiguous().numpy(), keys, octant.numpy())
    ordered, order = torch.from_numpy(keys).sort(stable=True)
    coarse, parent = torch.empty(count, 4, dtype=torch.int32), torch.empty(count, dtype=torch.int32)
    found = _number(ordered.numpy(), order.numpy(), coarse.numpy(), parent.numpy())
    return coarse[:found].clone(), parent, octant


@njit(cache=True, nogil=True)
def _halve(coords, keys, octant):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        key, bits = np.int64(coords[i, 0]), 0
        for axis in range(1, 4):
            value = coords[i, axis]
            key = (key << 16) | np.int64((value >> 1) + HALF)
            bits = 2 * bits + (value & 1)
        keys[i], octant[i] = key, bits


@njit(cache=True, nogil=True)
def _number(keys, order, coarse, parent):  # type: ignore[no-untyped-def]
    """Number unequal keys in order; gives how many there are."""
    count = 0
    for i in range(len(keys)):
        if i == 0 or keys[i] != keys[i - 1]:
            coarse[count, 0] = keys[i] >> 48
            for axis in range(1, 4):
                coarse[count, axis] = ((keys[i] >> (48 - 16 * axis)) & 0xFFFF) - HALF
            count += 1
        parent[order[i]] = count - 1
    return count
