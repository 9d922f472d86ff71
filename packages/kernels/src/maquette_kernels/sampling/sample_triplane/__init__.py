"""Bilinear samples of three planes of features at points of a cube."""

from __future__ import annotations

from maquette_kernels.sampling.sample_triplane.operation import SAMPLE_TRIPLANE, build

__all__ = ["SAMPLE_TRIPLANE", "build"]
