"""The obvious code for ``coarsen``."""

from __future__ import annotations

import torch
from torch import Tensor


def reference(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unique ``coords >> 1`` in ascending order, and for each voxel its parent's index and its octant."""
    halved = torch.cat([coords[:, :1], coords[:, 1:] >> 1], 1)
    coarse, parent = torch.unique(halved, dim=0, return_inverse=True)
    x, y, z = (coords[:, 1:] & 1).unbind(1)
    return coarse.view(-1, 4), parent.int(), 4 * x + 2 * y + z
