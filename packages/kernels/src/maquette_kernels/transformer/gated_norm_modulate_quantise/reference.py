"""The obvious code for ``gated_norm_modulate_quantise``: the two operations one after the other, with no rounding
between them.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from torch import Tensor

from maquette_kernels.transformer.gated_norm_modulate.reference import reference as gated_norm_modulate
from maquette_kernels.transformer.gated_norm_modulate.reference import working_dtype
from maquette_kernels.transformer.quantise_rowwise.reference import reference as quantise_rowwise


def reference(
    x: Tensor,
    h: Tensor,
    gate: Tensor,
    scale: Tensor,
    shift: Tensor,
    offsets: Tensor | None = None,
    eps: float = 1e-6,
    power_of_two: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """``y = x + gate * h``, then ``layer_norm(y) * (1 + scale) + shift`` in e4m3 and the scales of its rows; shapes as
    in ``ops.gated_norm_modulate_quantise``.
    """
    dtype = working_dtype(x, h, gate, scale, shift)
    wide = (operand.to(dtype) for operand in (x, h, gate, scale, shift))
    y, modulated = gated_norm_modulate(*wide, offsets, eps)
    return y.to(x.dtype), *quantise_rowwise(modulated, power_of_two)
