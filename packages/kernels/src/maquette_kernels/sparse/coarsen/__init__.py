"""Voxels of half the resolution, and which of the eight children each voxel is."""

from __future__ import annotations

from maquette_kernels.sparse.coarsen.operation import COARSEN, build

__all__ = ["COARSEN", "build"]
