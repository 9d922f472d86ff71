"""Weighted sums of rows, and their gradients, in Triton: what all sampling on a GPU comes down to.

A sample is a sum over its taps: ``out[m] = sum_k weights[m, k] * rows[index[m, k]]``; an index of -1 is no row.
The gradient of the rows adds up each row's taps in the order of the samples, found by a stable sort.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.segment_sum import compilations as sum_compilations
from maquette_kernels.segment_sum import segment_sum
from maquette_kernels.triton_support import Compilation, tile

CHANNELS = 128
"""Most channels that one program handles."""


@triton.jit
def gather_kernel(
    rows, index, weights, out, samples, dim, stride,
    TAPS: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    live = m < samples
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    for k in tl.static_range(TAPS):
        i = tl.load(index + m * TAPS + k, mask=live, other=-1)
        weight = tl.load(weights + m * TAPS + k, mask=live, other=0.0)
        mask = (i >= 0)[:, None] & (c < dim)
        row = tl.load(rows + i.to(tl.int64)[:, None] * stride + c, mask=mask, other=0.0).to(tl.float32)
        total += weight[:, None] * row
    tl.store(out + (m * dim)[:, None] + c, total.to(out.dtype.element_ty), mask=live[:, None] & (c < dim))


@triton.jit
def dots_kernel(
    rows, index, above, out, samples, dim, stride,
    TAPS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tap = tl.arange(0, WIDTH)[None, :]
    live = m < samples
    kind = out.dtype.element_ty
    total = tl.zeros((BLOCK, WIDTH), kind)
    for t in range(TILES):
        c = t * CHANNELS + tl.arange(0, CHANNELS)[None, :]
        g = tl.load(above + (m * dim)[:, None] + c, mask=live[:, None] & (c < dim), other=0.0).to(kind)
        for k in tl.static_range(TAPS):
            i = tl.load(index + m * TAPS + k, mask=live, other=-1)
            mask = (i >= 0)[:, None] & (c < dim)
            row = tl.load(rows + i.to(tl.int64)[:, None] * stride + c, mask=mask, other=0.0).to(kind)
            total += tl.where(tap == k, tl.sum(g * row, 1)[:, None], 0.0)
    tl.store(out + (m * TAPS)[:, None] + tap, total, mask=live[:, None] & (tap < TAPS))


def gather(rows: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Samples [M, C] of rows [N, C] by int32 indices [M, K] and float32 weights [M, K]."""
    samples, dim = index.shape[0], rows.shape[1]
    out = rows.new_empty((samples, dim))
    if out.numel():
        block, channels = _blocks(dim)
        gather_kernel[(triton.cdiv(samples, block), triton.cdiv(dim, channels))](
            rows, index, weights, out, samples, dim, rows.stride(0),
            TAPS=index.shape[1], BLOCK=block, CHANNELS=channels,
        )  # fmt: skip
    return out


def dots(rows: Tensor, index: Tensor, above: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Gradient of the weights [M, K], found in ``dtype``: products of the samples' gradients [M, C] with the rows."""
    samples, taps = index.shape
    dim = rows.shape[1]
    out = rows.new_zeros((samples, taps), dtype=dtype)
    if samples and dim:
        block, channels = _blocks(dim)
        dots_kernel[(triton.cdiv(samples, block),)](
            rows, index, above.contiguous(), out, samples, dim, rows.stride(0),
            TAPS=taps, WIDTH=triton.next_power_of_2(taps), BLOCK=block, CHANNELS=channels,
            TILES=triton.cdiv(dim, channels),
        )  # fmt: skip
    return out


def scatter(above: Tensor, index: Tensor, weights: Tensor, count: int) -> Tensor:
    """Gradient of the rows [N, C], in the dtype of those of the samples [M, C]."""
    return segment_sum(above, index, count, weights=weights, dtype=above.dtype)


def _blocks(dim: int) -> tuple[int, int]:
    """Samples and channels of one program."""
    channels = min(triton.next_power_of_2(dim), CHANNELS)
    return tile(channels, limit=2048), channels


def compilations(taps: int, dtypes: tuple[str, ...]) -> list[Compilation]:
    """Every kernel at 64 channels, for rows of each of the dtypes (``"*bf16"``)."""
    sizes = {"BLOCK": 32, "CHANNELS": 64, "TAPS": taps}
    compiled = []
    for dtype in dtypes:
        dots_sizes = {**sizes, "WIDTH": triton.next_power_of_2(taps), "TILES": 1}
        compiled += [_compilation(gather_kernel, dtype, sizes), _compilation(dots_kernel, dtype, dots_sizes)]
        compiled += sum_compilations(64, values=dtype, out=dtype, shared=taps, weighted=True)
    return compiled


def _compilation(kernel: Any, dtype: str, constants: dict[str, Any]) -> Compilation:
    known = {"index": "*i32", "weights": "*fp32"}
    known |= dict.fromkeys(("rows", "above", "out"), dtype)
    if kernel is dots_kernel:
        known["out"] = "*fp32"
    types = {name: known.get(name, "i32") for name in kernel.arg_names}
    return Compilation(kernel, types, constants, ("dim", "stride"))
