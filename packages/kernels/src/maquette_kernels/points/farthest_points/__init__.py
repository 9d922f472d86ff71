"""Farthest-point sampling, exactly, of one cloud or a ragged batch of clouds."""

from __future__ import annotations

from maquette_kernels.points.farthest_points.operation import FARTHEST_POINTS, build

__all__ = ["FARTHEST_POINTS", "build"]
