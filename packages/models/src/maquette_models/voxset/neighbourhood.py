"""What lies around places: the nearest points, how far they are off, and how much they may count."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from maquette_kernels.ops import nearest_neighbours

WAVES = (8.0, 4.0, 2.0, 1.0)  # lengths of the waves that places and offsets are told by, in voxels
PLACE_FEATURES = 3 + 1 + 6 * len(WAVES)
LEAST = 1e-6  # the smallest window of a neighbour
NOTHING = 1e-30  # the window of one that is not there


class Neighbourhood(NamedTuple):
    """The K nearest points of M places: index int64 [B,M,K]; offset float32 [B,M,K,3] of the place from each;
    log_window float32 [B,M,K], at most 0, to be added to scores of attention."""

    index: Tensor
    offset: Tensor
    log_window: Tensor


@torch.no_grad()
def neighbourhood(places: Tensor, points: Tensor, mask: Tensor, count: int) -> Neighbourhood:
    """The `count` nearest of points [B,N,3] around places [B,M,3], both in voxels; `mask` [B,N] is True for points that
    count.

    The window of a neighbour falls to almost nothing at the distance of the nearest point that is no neighbour, so that
    what is made of a neighbourhood changes continuously with the place. Where fewer points than `count` are there, the
    rest have an offset of 0 and no window.
    """
    points = points.masked_fill(~mask[..., None], torch.inf)
    squared, index = nearest_neighbours(places, points, count + 1)
    found, beyond = squared[..., :-1], squared[..., -1:]
    there = found.isfinite()
    window = (1 - found / beyond.clamp(min=LEAST)).clamp(min=LEAST)
    index = index[..., :-1].clamp(min=0)
    offset = torch.where(there[..., None], places[:, :, None] - gather_rows(points, index), 0)
    return Neighbourhood(index, offset, torch.where(there, window, NOTHING).log())


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x [B,N,W] by their number [B,M,K] within each sample: [B,M,K,W]."""
    first = torch.arange(len(x), device=x.device)[:, None, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (index + first).flatten()).view(*index.shape, x.shape[-1])


def place_features(places: Tensor) -> Tensor:
    """Places or offsets [...,3] in voxels, their lengths, and sines and cosines of them: [..., PLACE_FEATURES]."""
    frequencies = places.new_tensor([2 * math.pi / wave for wave in WAVES])
    phases = (places[..., None] * frequencies).flatten(-2)
    return torch.cat([places, places.norm(dim=-1, keepdim=True), phases.sin(), phases.cos()], dim=-1)
