"""Occupancies of distance grids, at a resolution of choice, packed to one bit a cell."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Occupancy:
    """bool [B,R*R*R] at `resolution` from distance grids [B,1,S,S,S], S being a multiple of R or the
    reverse."""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution

    def __call__(self, tsdf: Tensor) -> Tensor:
        field = tsdf.float()
        if field.shape[-1] != self.resolution:
            field = F.interpolate(field, size=(self.resolution,) * 3, mode="trilinear", align_corners=False)
        return (field < 0).flatten(1)


def packed(occupied: Tensor) -> Tensor:
    """bool [B,N] -> uint8 [B,N/8], N a multiple of 8."""
    return torch.from_numpy(np.packbits(occupied.cpu().numpy(), axis=1))


def unpacked(bits: Tensor) -> Tensor:
    """uint8 [B,N/8] -> bool [B,N]."""
    return torch.from_numpy(np.unpackbits(bits.cpu().numpy(), axis=1)).bool()
