"""Edges of what is seen, blended by coverage, so that a picture has gradients with respect to where its edges are."""

from __future__ import annotations

from maquette_kernels.raster.antialias.operation import ANTIALIAS, build

__all__ = ["ANTIALIAS", "build"]
