"""Rows in 8 bits (e4m3), each with a scale of its own."""

from __future__ import annotations

from maquette_kernels.transformer.quantise_rowwise.operation import QUANTISE_ROWWISE, build

__all__ = ["QUANTISE_ROWWISE", "build"]
