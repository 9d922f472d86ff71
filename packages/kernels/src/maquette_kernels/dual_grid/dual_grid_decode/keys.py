"""One whole number a voxel, in which a step along an axis is a difference."""

from __future__ import annotations

from torch import Tensor

FIELD = 17
"""Bits a coordinate: one more than it needs, so that a step beyond the lowest one meets no other voxel."""
LOWEST = -(2**15)


def voxel_keys(voxels: Tensor) -> Tensor:
    """Keys int64 [N] of voxels [N, 3] or [N, 4]: batch, x, y, z from the highest bit down."""
    x, y, z = (voxels[:, -3:].long() - LOWEST).unbind(1)
    keys = (x << 2 * FIELD) | (y << FIELD) | z
    return keys if voxels.shape[1] == 3 else keys | (voxels[:, 0].long() << 3 * FIELD)
