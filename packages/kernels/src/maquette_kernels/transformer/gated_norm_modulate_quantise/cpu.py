"""``gated_norm_modulate_quantise`` for CPUs: all steps on a few rows at a time, which stay in the cache."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.threads import in_chunks
from maquette_kernels.transformer.gated_norm_modulate.reference import sequence_of_row, working_dtype
from maquette_kernels.transformer.quantise_rowwise.cpu import quantise_rows
from maquette_kernels.transformer.quantise_rowwise.reference import E4M3

ELEMENTS = 2**16
"""Elements treated at once: 256 KB in float32."""


def forward(
    x: Tensor,
    h: Tensor,
    gate: Tensor,
    scale: Tensor,
    shift: Tensor,
    offsets: Tensor | None,
    eps: float,
    power_of_two: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, its modulated norm in e4m3, and the scales of its rows."""
    y = torch.empty(x.shape, dtype=x.dtype)
    values = torch.empty(x.shape, dtype=E4M3)
    row_scale = torch.empty(x.shape[:-1], dtype=torch.float32)
    if not y.numel():
        return y, values, row_scale
    dim = x.shape[-1]
    dtype = working_dtype(x, h, gate, scale, shift)
    rows = y.numel() // dim
    index = torch.arange(rows) // x.shape[1] if offsets is None else sequence_of_row(offsets, rows)
    flat_x, flat_h, flat_y, flat_values = (t.reshape(rows, dim) for t in (x, h, y, values))
    gate, factor, shift = gate.to(dtype), scale.to(dtype) + 1, shift.to(dtype)

    def treat(start: int, stop: int) -> None:
        which = index[start:stop]
        own = torch.addcmul(flat_x[start:stop].to(dtype), gate[which], flat_h[start:stop].to(dtype))
        flat_y[start:stop] = own
        own -= own.mean(-1, keepdim=True)
        own *= own.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        own = torch.addcmul(shift[which], own, factor[which]).float()
        quantise_rows(own, flat_values[start:stop], row_scale.view(-1, 1)[start:stop], power_of_two)

    in_chunks(treat, rows, max(1, ELEMENTS // dim))
    return y, values, row_scale
