"""Attention within each sequence of a ragged batch, or within each of many small windows."""

from __future__ import annotations

from maquette_kernels.transformer.ragged_attention.operation import RAGGED_ATTENTION, build

__all__ = ["RAGGED_ATTENTION", "build"]
