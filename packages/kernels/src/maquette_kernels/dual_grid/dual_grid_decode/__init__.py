"""From a flexible dual grid to a mesh."""

from __future__ import annotations

from maquette_kernels.dual_grid.dual_grid_decode.operation import DUAL_GRID_DECODE, build

__all__ = ["DUAL_GRID_DECODE", "build"]
