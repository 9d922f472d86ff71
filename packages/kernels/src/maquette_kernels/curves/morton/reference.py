"""The obvious code for Morton codes: bit by bit."""

from __future__ import annotations

import torch
from torch import Tensor


def encode(coords: Tensor, bits: int) -> Tensor:
    """int64 [N] from [N, 3] (x, y, z) or [N, 4] (batch, x, y, z); as ``functions.morton_encode``."""
    coords = coords.long()
    code = torch.zeros_like(coords[:, 0])
    for bit in range(bits):
        for axis in range(3):
            code = code | ((coords[:, axis - 3] >> bit) & 1) << (3 * bit + axis)
    return code | coords[:, 0] << 3 * bits if coords.shape[1] == 4 else code


def decode(codes: Tensor, bits: int, batched: bool) -> Tensor:
    """int32 [N, 3], or [N, 4] where ``batched``; as ``functions.morton_decode``."""
    axes = [torch.zeros_like(codes) for _ in range(3)]
    for bit in range(bits):
        for axis in range(3):
            axes[axis] = axes[axis] | ((codes >> (3 * bit + axis)) & 1) << bit
    return torch.stack([codes >> 3 * bits, *axes] if batched else axes, 1).int()
