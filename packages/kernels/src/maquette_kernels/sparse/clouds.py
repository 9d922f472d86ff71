"""Sets of voxels to test and measure with."""

from __future__ import annotations

import torch
from torch import Tensor


def voxels(count: int, *, side: int, batch: int, seed: int, ordered: bool = False) -> Tensor:
    """At most ``count`` distinct random voxels of ``batch`` grids of ``side`` voxels along an axis, int32 [N, 4]."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(batch * side**3, generator=generator)[:count]
    if ordered:
        places = places.sort().values
    fields = [places // side**3, places // side**2 % side, places // side % side, places % side]
    return torch.stack(fields, 1).int()


def shell(side: int) -> Tensor:
    """The voxels of a sphere's surface, ``side`` voxels across, sorted: int32 [N, 4], about ``3.9 side^2``."""
    axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    slabs = []
    for x in range(side):  # slab by slab: a whole grid of 1024^3 would not fit
        distance = (axis[x] ** 2 + axis[:, None] ** 2 + axis[None, :] ** 2).sqrt()
        y, z = ((distance <= side / 2) & (distance >= side / 2 - 1.25)).nonzero(as_tuple=True)
        slabs.append(torch.stack([torch.zeros_like(y), torch.full_like(y, x), y, z], 1))
    return torch.cat(slabs).int()
