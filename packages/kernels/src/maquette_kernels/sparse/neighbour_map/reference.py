"""The obvious code for ``neighbour_map``: a dictionary of places, asked for every tap of every voxel."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import itertools

import torch
from torch import Tensor

from maquette_kernels.sparse.keys import offsets_of


def reference(
    coords: Tensor, queries: Tensor | None, kx: int, ky: int, kz: int, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Index of the voxel of ``coords`` at ``stride * query + dilation * offset`` for each offset, or -1."""
    asked = coords if queries is None else queries
    places: dict[tuple[int, ...], int] = {}
    for index, place in enumerate(coords.tolist()):
        places.setdefault(tuple(place), index)
    taps = list(itertools.product(offsets_of(kx), offsets_of(ky), offsets_of(kz)))
    found = [
        places.get((batch, *(stride * c + dilation * o for c, o in zip(centre, tap, strict=True))), -1)
        for batch, *centre in asked.tolist()
        for tap in taps
    ]
    return torch.tensor(found, dtype=torch.int32, device=coords.device).view(len(asked), len(taps))
