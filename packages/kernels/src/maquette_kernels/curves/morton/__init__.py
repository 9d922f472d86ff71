"""Morton codes of voxels, and voxels of Morton codes."""

from __future__ import annotations

from maquette_kernels.curves.morton.operation import MORTON_DECODE, MORTON_ENCODE, build_decode, build_encode

__all__ = ["MORTON_DECODE", "MORTON_ENCODE", "build_decode", "build_encode"]
