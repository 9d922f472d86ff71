"""Hilbert codes of voxels, and voxels of Hilbert codes."""

from __future__ import annotations

from maquette_kernels.curves.hilbert.operation import HILBERT_DECODE, HILBERT_ENCODE, build_decode, build_encode

__all__ = ["HILBERT_DECODE", "HILBERT_ENCODE", "build_decode", "build_encode"]
