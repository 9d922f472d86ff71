"""The k points nearest to each query, exactly, in one cloud or a ragged batch of clouds."""

from __future__ import annotations

from maquette_kernels.points.nearest_neighbours.operation import NEAREST_NEIGHBOURS, build

__all__ = ["NEAREST_NEIGHBOURS", "build"]
