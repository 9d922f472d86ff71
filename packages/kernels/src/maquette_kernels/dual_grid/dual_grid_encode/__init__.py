"""From a mesh to a flexible dual grid."""

from __future__ import annotations

from maquette_kernels.dual_grid.dual_grid_encode.operation import DUAL_GRID_ENCODE, build

__all__ = ["DUAL_GRID_ENCODE", "build"]
