"""Coordinates of samples as whole numbers in the order of the grid."""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 17
"""Bits of a coordinate; one more than its range needs, so that a step past the end meets no other sample."""

LOWEST, HIGHEST = -(2**15), 2**15
MOST_BATCHES = 2**12
_BIAS = 2**16
STEPS = tuple(((c & 1) << 2 * BITS) + ((c >> 1 & 1) << BITS) + (c >> 2 & 1) for c in range(8))
"""What to add to the key of a cell's first corner for each of its eight corners."""


def keys_of(coords: Tensor) -> Tensor:
    """Keys int64 [N] of coordinates [N, 4] (batch, x, y, z); they sort by batch, then x, y and z."""
    batch, x, y, z = coords.long().unbind(1)
    return (((((batch << BITS) + x + _BIAS) << BITS) + y + _BIAS) << BITS) + z + _BIAS


def sorted_keys(coords: Tensor) -> tuple[Tensor, Tensor]:
    """Keys in rising order, and which sample each belongs to, both int64 [N]."""
    keys = keys_of(coords)
    if coords.device.type == "cpu" and bool((keys[1:] > keys[:-1]).all()):
        return keys, torch.arange(len(keys))
    found = keys.sort()
    return found.values, found.indices
