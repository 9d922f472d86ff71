"""Planes as rows of texels, channels last, so that a tap is one run of memory."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor


def texels(planes: Tensor) -> Tensor:
    """[B, 3, C, R, R] as rows [B 3 R R, C]; a view where channels are last in memory already."""
    return rearrange(planes, "b plane c v u -> (b plane v u) c").contiguous()


def as_planes(rows: Tensor, planes: Tensor) -> Tensor:
    """Rows of texels in the shape of planes."""
    batch, count, _, side, _ = planes.shape
    return rearrange(rows, "(b plane v u) c -> b plane c v u", b=batch, plane=count, v=side, u=side)


def taps_of_a_sample(taps: Tensor, concat: bool) -> Tensor:
    """Taps [B, P, 12] as rows of those that are added up: all of a point, or those of one plane."""
    return taps.view(-1, 4 if concat else 12)


def sample_shape(planes: Tensor, points: Tensor, concat: bool) -> tuple[int, int, int]:
    """Shape of the samples."""
    return points.shape[0], points.shape[1], planes.shape[2] * (3 if concat else 1)
