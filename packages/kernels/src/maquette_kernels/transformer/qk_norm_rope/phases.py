"""Rotation phases of 3D positions, shared by the fast paths."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def pairs_per_axis(dim: int) -> int:
    """Rotated pairs for each of x, y, z among the ``dim / 2`` pairs of a head."""
    return dim // 2 // 3


@lru_cache(maxsize=64)
def frequencies(dim: int, theta: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``theta^(-j / F)`` for ``j < F``, [F], rounded once from fp64; F pairs turn with each axis."""
    per_axis = pairs_per_axis(dim)
    return torch.tensor([theta ** (-j / per_axis) for j in range(per_axis)], dtype=dtype, device=device)


def cos_sin(positions: Tensor, dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the phases, each [..., N, dim/2]; pairs that stay put have cosine 1 and sine 0."""
    table = frequencies(dim, theta, dtype, positions.device)
    phases = (positions.to(dtype).unsqueeze(-1) * table).flatten(-2)
    left_over = dim // 2 - phases.shape[-1]
    if left_over:
        phases = torch.nn.functional.pad(phases, (0, left_over))
    return phases.cos(), phases.sin()
