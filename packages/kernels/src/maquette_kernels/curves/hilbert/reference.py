"""The obvious code for Hilbert codes, level by level in plain torch.

From the coarsest level to the finest, the octant that holds a voxel says how the finer levels are turned:
for x, y, z in turn, an axis in its upper half mirrors x, one in its lower half changes places with x. What
the bits of the turned coordinates spell out, x first, is the code in Gray's numbering.
"""

from __future__ import annotations

import torch
from torch import Tensor


def encode(coords: Tensor, bits: int) -> Tensor:
    """int64 [N] from [N, 3] (x, y, z) or [N, 4] (batch, x, y, z); as ``functions.hilbert_encode``."""
    axes = [axis & ((1 << bits) - 1) for axis in coords.long()[:, -3:].unbind(1)]
    for level in range(bits - 1, -1, -1):
        for axis in range(3):
            axes = _turn(axes, axis, level)
    code, digit = torch.zeros_like(axes[0]), torch.zeros_like(axes[0])
    for level in range(bits - 1, -1, -1):
        for axis in range(3):
            digit = digit ^ ((axes[axis] >> level) & 1)  # Gray's numbering: each digit flips all that follow
            code = code << 1 | digit
    return code | coords[:, 0].long() << 3 * bits if coords.shape[1] == 4 else code


def decode(codes: Tensor, bits: int, batched: bool) -> Tensor:
    """int32 [N, 3], or [N, 4] where ``batched``; as ``functions.hilbert_decode``."""
    code = codes & ((1 << 3 * bits) - 1)
    gray = code ^ (code >> 1)
    axes = [torch.zeros_like(code) for _ in range(3)]
    for level in range(bits):
        for axis in range(3):
            axes[axis] = axes[axis] | ((gray >> (3 * level + 2 - axis)) & 1) << level
    for level in range(bits):
        for axis in (2, 1, 0):
            axes = _turn(axes, axis, level)
    return torch.stack([codes >> 3 * bits, *axes] if batched else axes, 1).int()


def _turn(axes: list[Tensor], axis: int, level: int) -> list[Tensor]:
    """Turn the bits below a level by the half that an axis is in; its own inverse."""
    low = (1 << level) - 1
    upper = (axes[axis] >> level) & 1 == 1
    exchanged = (axes[0] ^ axes[axis]) & low
    turned = list(axes)
    turned[0] = torch.where(upper, axes[0] ^ low, axes[0] ^ exchanged)
    if axis:
        turned[axis] = torch.where(upper, axes[axis], axes[axis] ^ exchanged)
    return turned
