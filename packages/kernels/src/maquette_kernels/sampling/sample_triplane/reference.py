"""The obvious code for ``sample_triplane``: four texels a plane, weighed by hand."""

from __future__ import annotations

import torch
from torch import Tensor

AXES = ((0, 1), (0, 2), (1, 2))
"""Axes of a point along the width and the height of each plane."""


def working_dtype(planes: Tensor, points: Tensor) -> torch.dtype:
    """Dtype of the arithmetic: at least float32, float64 where an operand has it."""
    return torch.promote_types(torch.promote_types(planes.dtype, points.dtype), torch.float32)


def reference(planes: Tensor, points: Tensor, concat: bool = False, clamp: bool = False) -> Tensor:
    """Samples [B, P, C], or [B, P, 3C] where ``concat``; as ``functions.sample_triplane``."""
    batch, _, channels, side, _ = planes.shape
    dtype = working_dtype(planes, points)
    index, weights = residuals(planes, points, concat, clamp)
    texels = planes.to(dtype).permute(0, 1, 3, 4, 2).reshape(batch * 3 * side * side, channels)
    texels = torch.cat([texels, texels.new_zeros((1, channels))])
    samples = (texels[index.long()] * weights.unsqueeze(-1)).unflatten(2, (3, 4)).sum(3)
    return (samples.flatten(2) if concat else samples.sum(2)).to(planes.dtype)


def residuals(planes: Tensor, points: Tensor, concat: bool = False, clamp: bool = False) -> tuple[Tensor, Tensor]:
    """Texel of each tap, int32 [B, P, 12] (-1 outside), and its weight.

    Taps in the order of the planes and in each of rows and columns; texels are counted through the whole batch
    as if channels came last.
    """
    batch, side = planes.shape[0], planes.shape[-1]
    base, fraction, inside = _cells(points.to(working_dtype(planes, points)), side, clamp)
    element = torch.arange(batch, device=points.device).unsqueeze(1)
    index, weights = [], []
    for plane, (across, down) in enumerate(AXES):
        for row in range(2):
            for column in range(2):
                u, v = base[..., across] + column, base[..., down] + row
                there = inside[..., across] & inside[..., down] & (u >= 0) & (u < side) & (v >= 0) & (v < side)
                index.append(torch.where(there, ((element * 3 + plane) * side + v) * side + u, -1))
                weight = _share(fraction[..., across], column) * _share(fraction[..., down], row)
                weights.append(torch.where(there, weight, 0))
    return torch.stack(index, -1).int(), torch.stack(weights, -1)


def _cells(points: Tensor, side: int, clamp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """First texel of each coordinate, how far behind it the coordinate lies, and whether it meets any texel."""
    place = ((points + 1) * side - 1) / 2
    if clamp:
        place = torch.where(place > 0, place, torch.where(place <= 0, torch.zeros_like(place), place.detach()))
        place = torch.where(place < side - 1, place, torch.where(place >= side - 1, side - 1.0, place.detach()))
    inside = (place > -1) & (place < side)
    place = torch.where(inside, place, 0)
    base = place.detach().floor()
    return base.long(), place - base, inside


def _share(fraction: Tensor, upper: int) -> Tensor:
    return fraction if upper else 1 - fraction
