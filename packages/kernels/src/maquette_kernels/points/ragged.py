"""Clouds of a ragged batch: points end to end, and offsets that say where each cloud begins."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from maquette_kernels.call import Call, Operand

DTYPES = (torch.float32, torch.float64)


def spans(offsets: Tensor | None, count: int) -> list[tuple[int, int]]:
    """Start and stop of each cloud; one cloud of all points without offsets."""
    if offsets is None:
        return [(0, count)]
    return list(pairwise(offsets.tolist()))


def whole(offsets: Tensor | None, points: Tensor) -> Tensor:
    """Contiguous offsets, int64 [B + 1] on the device of the points; those of one cloud where none were given."""
    if offsets is None:
        return torch.tensor([0, points.shape[0]], device=points.device)
    return offsets.contiguous()


def clouds_in(call: Call, name: str) -> int:
    """Number of clouds that the offsets called ``name`` make of a call."""
    return call[name].shape[0] - 1 if call.has(name) else 1


def wrong_points(name: str, points: Operand) -> str | None:
    """What is wrong with points as such, or None."""
    if len(points.shape) != 2 or points.shape[1] != 3:
        return f"{name} must be [N, 3], got {tuple(points.shape)}"
    return None if points.dtype in DTYPES else f"{name} must be float32 or float64, got {points.dtype}"


def wrong_offsets(name: str, offsets: Operand) -> str | None:
    """What is wrong with offsets as such, or None."""
    if len(offsets.shape) != 1 or offsets.shape[0] == 0 or offsets.dtype != torch.int64:
        return f"{name} must be int64 [B + 1], got {offsets.dtype} {tuple(offsets.shape)}"
    return None
