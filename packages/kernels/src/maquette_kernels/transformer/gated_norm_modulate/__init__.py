"""Gated residual, LayerNorm and modulation (adaLN) in one operation, for dense and for ragged batches."""

from __future__ import annotations

from maquette_kernels.transformer.gated_norm_modulate.operation import (
    GATED_NORM_MODULATE,
    build,
)

__all__ = ["GATED_NORM_MODULATE", "build"]
