"""What the Triton kernels of dense and sparse marching cubes share: tables on a device, and where an edge is
crossed.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.surface import cases


@triton.jit
def crossing(a, b, level, low, high):
    """Where between two samples the level is crossed, at least ``low`` and at most ``high``.

    Rounded like the CPU path's division, so that devices agree to the bit.
    """
    below = a - level
    t = tl.div_rn(below, below - (b - level))
    t = tl.where(t != t, 0.5, t)  # noqa: PLR0124 - only NaN differs from itself
    return tl.minimum(tl.maximum(t, low), high)


@cache
def tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slots and counts of the cases, corners and axes of the edges, int32, on a device."""
    found = tuple(torch.from_numpy(table).to(device) for table in (*cases.triangles(), *cases.edges()))
    return found[0], found[1], found[2], found[3]
