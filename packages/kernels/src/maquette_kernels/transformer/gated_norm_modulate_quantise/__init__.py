"""``gated_norm_modulate`` whose modulated norm comes out in 8 bits, ready for an fp8 product."""

from __future__ import annotations

from maquette_kernels.transformer.gated_norm_modulate_quantise.operation import (
    GATED_NORM_MODULATE_QUANTISE,
    build,
)

__all__ = ["GATED_NORM_MODULATE_QUANTISE", "build"]
