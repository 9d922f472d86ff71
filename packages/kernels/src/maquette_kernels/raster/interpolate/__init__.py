"""Attributes of vertices at the pixels that see them."""

from __future__ import annotations

from maquette_kernels.raster.interpolate.operation import INTERPOLATE, build

__all__ = ["INTERPOLATE", "build"]
