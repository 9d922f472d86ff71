"""The surface of sparse samples on a grid, as triangles."""

from __future__ import annotations

from maquette_kernels.surface.sparse_marching_cubes.operation import SPARSE_MARCHING_CUBES, build

__all__ = ["SPARSE_MARCHING_CUBES", "build"]
