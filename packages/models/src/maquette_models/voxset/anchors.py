"""Anchors of a token set: centres of the coarse voxels that a surface passes through.

After LATTICE (2025): tokens that have a place take rotary positions, and their number is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from maquette.engine.randomness import fold
from maquette_kernels.ops import farthest_points


class Anchors(NamedTuple):
    """positions float32 [B,N,3] in voxels (integers at centres); mask bool [B,N], True where a token counts."""

    positions: Tensor
    mask: Tensor


def to_space(positions: Tensor, resolution: int) -> Tensor:
    """Voxel coordinates [...,3] of a grid with `resolution` cells a side as points of the unit cube."""
    return (positions + 0.5) / resolution - 0.5


def to_voxels(points: Tensor, resolution: int) -> Tensor:
    """The inverse of `to_space`."""
    return (points + 0.5) * resolution - 0.5


def surface_voxels(points: Tensor, resolution: int) -> Tensor:
    """The voxels, int64 [V,3] in rising order, that points [P,3] of the unit cube lie in; those outside count with the
    border."""
    cells = ((points + 0.5) * resolution).floor().long().clamp(0, resolution - 1)
    x, y, z = cells.unbind(-1)
    keys = ((x * resolution + y) * resolution + z).unique()
    return torch.stack([keys // resolution**2, keys // resolution % resolution, keys % resolution], dim=-1)


def choose_anchors(voxels: Sequence[Tensor], counts: Sequence[int], seeds: Sequence[int]) -> Anchors:
    """Of each sample's voxels [V,3] at most `counts` many, farthest points first from one that its seed picks.

    Anchors are in the order in which they were chosen, so that any first part of them covers the whole shape.
    """
    chosen = []
    for cells, count, seed in zip(voxels, counts, seeds, strict=True):
        generator = torch.Generator().manual_seed(fold("anchors", seed))
        first = int(torch.randint(len(cells), (1,), generator=generator)) if len(cells) else 0
        centres = cells.float()
        order = farthest_points(centres, min(count, len(cells)), start=first)
        chosen.append(centres[order])
    lengths = torch.tensor([len(centres) for centres in chosen], device=chosen[0].device)
    positions = pad_sequence(chosen, batch_first=True)
    return Anchors(positions, torch.arange(positions.shape[1], device=lengths.device) < lengths[:, None])
