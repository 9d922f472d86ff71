"""The obvious code for ``quantise_rowwise``, whose every step is exact or one rounding of float32, so that other
implementations give the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest number of e4m3."""

SMALLEST_SCALE = 2.0**-100
"""Rows whose largest element is under 448 times this get this scale: theirs would be subnormal."""


def reference(x: Tensor, power_of_two: bool = True) -> tuple[Tensor, Tensor]:
    """Rows in e4m3 and the scale of each; shapes and conventions as in ``ops.quantise_rowwise``.

    Float32 whatever the dtype of x: there is nothing in 8 bits that more would show.
    """
    wide = x.float()
    scale = row_scale(wide.abs().amax(-1) if x.shape[-1] else wide.new_zeros(x.shape[:-1]), power_of_two)
    return (wide / scale.unsqueeze(-1)).clamp(-LARGEST, LARGEST).to(E4M3), scale


def row_scale(largest: Tensor, power_of_two: bool) -> Tensor:
    """``largest / 448``, or the least power of two from there up; NaN where ``largest`` is not finite."""
    needed = (largest / LARGEST).clamp(min=SMALLEST_SCALE)
    if power_of_two:
        mantissa, exponent = torch.frexp(needed)  # needed = mantissa * 2^exponent, mantissa from 1/2 up
        needed = torch.ldexp(torch.ones_like(needed), exponent - (mantissa == 0.5).to(exponent.dtype))
    return torch.where(largest.isfinite(), needed, float("nan"))
