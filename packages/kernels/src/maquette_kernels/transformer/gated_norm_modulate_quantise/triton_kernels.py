"""``gated_norm_modulate_quantise`` in Triton: the forward of ``gated_norm_modulate``, which writes bytes and scales
in place of its modulated norm.
"""

# Kernels take all arguments by position.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.transformer.gated_norm_modulate.triton_kernels import modulated_rows, sequence_of
from maquette_kernels.transformer.quantise_rowwise.reference import E4M3
from maquette_kernels.transformer.quantise_rowwise.triton_encode import encode, row_scale
from maquette_kernels.triton_support import Compilation, tile


@triton.jit
def forward_kernel(
    x, h, gate, scale, shift, offsets, y_out, values, scale_out,
    rows, dim, batch, length, x_batch, x_row, h_batch, h_row, gate_row, scale_row, shift_row, eps,
    ROWS: tl.constexpr, DIM: tl.constexpr, STEPS: tl.constexpr, RAGGED: tl.constexpr, POWER_OF_TWO: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, DIM)[None, :]
    live = row < rows
    mask = live[:, None] & (column < dim)
    sequence = sequence_of(offsets, tl.where(live, row, 0), batch, length, STEPS, RAGGED)
    y, modulated, _mean, _rstd = modulated_rows(
        x, h, gate, scale, shift, sequence, row - sequence * length, column, mask, dim,
        x_batch, x_row, h_batch, h_row, gate_row, scale_row, shift_row, eps,
    )  # fmt: skip
    place = (row * dim)[:, None] + column
    tl.store(y_out + place, y.to(y_out.dtype.element_ty), mask=mask)
    own_scale = row_scale(modulated, POWER_OF_TWO)
    tl.store(scale_out + row, own_scale, mask=live)
    tl.store(values + place, encode(modulated, own_scale, POWER_OF_TWO), mask=mask)


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
    y = x.new_empty(x.shape)
    values = torch.empty(x.shape, dtype=E4M3, device=x.device)
    row_scales = x.new_empty(x.shape[:-1], dtype=torch.float32)
    if x.numel():
        dim, batch = x.shape[-1], gate.shape[0]
        rows, length = x.numel() // dim, 0 if offsets is not None else x.shape[1]
        padded = triton.next_power_of_2(dim)
        constants = {"ROWS": tile(padded), "DIM": padded, "STEPS": batch.bit_length() + 1}
        forward_kernel[(triton.cdiv(rows, constants["ROWS"]),)](
            x, h, gate, scale, shift, row_scales if offsets is None else offsets, y, values.view(torch.uint8),
            row_scales, rows, dim, batch, length, *_row_strides(x), *_row_strides(h),
            gate.stride(0), scale.stride(0), shift.stride(0), eps,
            RAGGED=offsets is not None, POWER_OF_TWO=power_of_two, **constants,
        )  # fmt: skip
    return y, values, row_scales


def _row_strides(x: Tensor) -> tuple[int, int]:
    """Strides of sequence and row; a ragged x has no stride of sequences."""
    return (0, x.stride(0)) if x.dim() == 2 else (x.stride(0), x.stride(1))


def compilations() -> list[Compilation]:
    """1536 channels in bf16, dense and ragged."""
    pointers = dict.fromkeys(("x", "h", "gate", "scale", "shift", "y_out"), "*bf16")
    known = pointers | {"values": "*u8", "scale_out": "*fp32", "offsets": "*i64", "eps": "fp32"}
    types: dict[str, Any] = {name: known.get(name, "i32") for name in forward_kernel.arg_names}
    strides = tuple(name for name in forward_kernel.arg_names if name.endswith(("x_batch", "h_batch", "_row")))
    sizes = {"ROWS": 2, "DIM": 2048, "STEPS": 6, "POWER_OF_TWO": True}
    return [Compilation(forward_kernel, types, sizes | {"RAGGED": r}, ("dim", *strides)) for r in (False, True)]
