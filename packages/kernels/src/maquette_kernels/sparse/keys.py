"""Voxel coordinates as sortable whole numbers, and the taps of a kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.call import Operand

HALF = 1 << 15
"""Coordinates lie in ``[-HALF, HALF)`` and batch indices in ``[0, HALF)``: 16 bits a field."""


def pack(coords: Tensor) -> Tensor:
    """Coordinates [N, 4] (batch, x, y, z) as int64 [N], in the same order as sorting by batch, x, y, z."""
    batch, x, y, z = coords.long().unbind(1)
    return (((batch << 16 | (x + HALF)) << 16 | (y + HALF)) << 16) | (z + HALF)


def unpack(keys: Tensor) -> Tensor:
    """Inverse of :func:`pack`: int32 [N, 4]."""
    fields = [keys >> 48, *(((keys >> shift) & 0xFFFF) - HALF for shift in (32, 16, 0))]
    return torch.stack(fields, 1).int()


def offsets_of(size: int) -> range:
    """Offsets of a kernel's taps along one axis: centred, and one further ahead than behind if even."""
    return range(-((size - 1) // 2), size // 2 + 1)


def as_three(size: int | tuple[int, int, int], what: str) -> tuple[int, int, int]:
    """A size along each axis from one number or three.

    Raises:
        MaquetteError: it is neither, or below 1.
    """
    three = (size, size, size) if isinstance(size, int) else tuple(size)
    if len(three) != 3 or min(three) < 1:
        raise MaquetteError(f"{what} is {size}; give a whole number from 1 on, or three of them")
    return three[0], three[1], three[2]


def wrong_coords(name: str, coords: Operand) -> str | None:
    """What is wrong with an operand of voxel coordinates, or None."""
    if coords.dtype != torch.int32 or len(coords.shape) != 2 or coords.shape[1] != 4:
        return f"{name} must be int32 [N, 4] (batch, x, y, z), got {coords.dtype} {tuple(coords.shape)}"
    return None


def check_coords(coords: Tensor) -> None:
    """Look at every coordinate, which waits for a GPU: on request only.

    Raises:
        MaquetteError: a coordinate or batch index does not fit 16 bits, or two rows are equal.
    """
    if not coords.numel():
        return
    if int(coords[:, 0].min()) < 0 or int(coords[:, 0].max()) >= HALF:
        raise MaquetteError(f"coords: batch indices must lie in 0..{HALF - 1}; renumber the batch")
    if int(coords[:, 1:].min()) < -HALF or int(coords[:, 1:].max()) >= HALF:
        raise MaquetteError(f"coords: coordinates must lie in {-HALF}..{HALF - 1}; use a coarser grid or shift it")
    keys = pack(coords).sort().values
    if bool((keys[1:] == keys[:-1]).any()):
        raise MaquetteError("coords: two voxels of one batch element share their place; drop one (torch.unique)")
