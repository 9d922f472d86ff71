"""``quantise_rowwise`` in Triton: a program reads a few rows once, finds their scales and writes their bytes."""

# Kernels take all arguments by position.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.transformer.quantise_rowwise.reference import E4M3, SMALLEST_SCALE
from maquette_kernels.transformer.quantise_rowwise.triton_encode import encode, row_scale
from maquette_kernels.triton_support import Compilation, tile


@triton.jit
def forward_kernel(
    x, values, scale_out, rows, dim, x_row,
    ROWS: tl.constexpr, DIM: tl.constexpr, POWER_OF_TWO: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, DIM)[None, :]
    live = row < rows
    mask = live[:, None] & (column < dim)
    wide = tl.load(x + (row * x_row)[:, None] + column, mask=mask, other=0.0).to(tl.float32)
    scale = row_scale(wide, POWER_OF_TWO)
    tl.store(scale_out + row, scale, mask=live)
    tl.store(values + (row * dim)[:, None] + column, encode(wide, scale, POWER_OF_TWO), mask=mask)


def forward(x: Tensor, power_of_two: bool) -> tuple[Tensor, Tensor]:
    """Rows in e4m3, and the scale of each."""
    values = torch.empty(x.shape, dtype=E4M3, device=x.device)
    scale = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
    if not values.numel():
        return values, scale.fill_(SMALLEST_SCALE)
    dim = x.shape[-1]
    flat = x.reshape(-1, dim)  # a view, or a copy where the rows do not lie one stride apart
    padded = triton.next_power_of_2(dim)
    rows = tile(padded)
    forward_kernel[(triton.cdiv(flat.shape[0], rows),)](
        flat, values.view(torch.uint8), scale, flat.shape[0], dim, flat.stride(0),
        ROWS=rows, DIM=padded, POWER_OF_TWO=power_of_two,
    )  # fmt: skip
    return values, scale


def compilations() -> list[Compilation]:
    """Rows of 1536 channels in bf16, with either kind of scale."""
    types: dict[str, Any] = {"x": "*bf16", "values": "*u8", "scale_out": "*fp32", "rows": "i32", "dim": "i32"}
    sizes = {"ROWS": 2, "DIM": 2048}
    return [
        Compilation(forward_kernel, types | {"x_row": "i32"}, sizes | {"POWER_OF_TWO": power}, ("dim", "x_row"))
        for power in (True, False)
    ]
