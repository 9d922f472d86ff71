"""``quantise_rowwise`` for CPUs: torch's vectorised steps over runs of rows that stay in the cache."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.threads import in_chunks
from maquette_kernels.transformer.quantise_rowwise.reference import E4M3, LARGEST, SMALLEST_SCALE

ELEMENTS = 2**16
"""Elements quantised at once: 256 KB in float32, a quarter of a core's second cache."""


def forward(x: Tensor, power_of_two: bool) -> tuple[Tensor, Tensor]:
    """Rows in e4m3, and the scale of each."""
    values = torch.empty(x.shape, dtype=E4M3)
    scale = torch.empty(x.shape[:-1], dtype=torch.float32)
    if not values.numel():
        return values, scale.fill_(SMALLEST_SCALE)
    rows, values_of, scale_of = x.reshape(-1, x.shape[-1]), values.view(-1, x.shape[-1]), scale.view(-1, 1)

    def quantise(start: int, stop: int) -> None:
        own = rows[start:stop].to(torch.float32, copy=True)  # changed in place
        quantise_rows(own, values_of[start:stop], scale_of[start:stop], power_of_two)

    in_chunks(quantise, rows.shape[0], max(1, ELEMENTS // x.shape[-1]))
    return values, scale


def quantise_rows(wide: Tensor, values: Tensor, scale: Tensor, power_of_two: bool) -> None:
    """Fill ``values`` [n, D] and ``scale`` [n, 1] from float32 rows, which are spoilt."""
    largest = torch.maximum(wide.amax(-1, keepdim=True), -wide.amin(-1, keepdim=True))  # aminmax is ten times slower
    needed = (largest / LARGEST).clamp_(min=SMALLEST_SCALE)
    if power_of_two:
        # Adding all but one of the mantissa's bits carries into the exponent unless the number is a power of two.
        needed = ((needed.view(torch.int32) + 0x7FFFFF) & -0x800000).view(torch.float32)
    scale.copy_(needed).masked_fill_(~largest.isfinite(), float("nan"))
    if power_of_two:
        wide.mul_(1 / scale)  # exact for a power of two, and no result is beyond 448
        values.copy_(wide)
    else:
        values.copy_(wide.div_(scale).clamp_(-LARGEST, LARGEST))
