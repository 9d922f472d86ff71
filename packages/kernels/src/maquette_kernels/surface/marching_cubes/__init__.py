"""The surface of a dense grid of samples, as triangles."""

from __future__ import annotations

from maquette_kernels.surface.marching_cubes.operation import MARCHING_CUBES, build

__all__ = ["MARCHING_CUBES", "build"]
