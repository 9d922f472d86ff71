"""Which triangle each pixel sees, and where on it."""

from __future__ import annotations

from maquette_kernels.raster.rasterise.operation import RASTERISE, build

__all__ = ["RASTERISE", "build"]
