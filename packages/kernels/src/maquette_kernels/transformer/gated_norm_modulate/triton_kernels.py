"""``gated_norm_modulate`` in Triton: one forward kernel; a backward kernel that also sums over runs of rows;
a final sum.

A dense batch is a ragged one whose sequences have equal lengths, so the kernels know offsets only (RAGGED) or
compute them (dense). Gradients of gate, scale and shift are sums over sequences, in two stages without
atomics. Stage one cuts the rows into runs of RUN; a run that spans several sequences is cut again where they
meet. The piece of run ``p`` in sequence ``s`` is written to slot ``p + s``: walking along the rows, each step
to the next piece raises p or s (or both), so no two pieces share a slot, and the slots of a sequence follow
from its offsets alone. Stage two adds each sequence's slots in order.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.triton_support import Compilation, interpreting, tile

COLUMNS = 256
"""Columns that one program of the final sum handles."""


@triton.jit
def _bounds(offsets, sequence, length, RAGGED: tl.constexpr):
    """First row of a sequence and first row behind it."""
    if RAGGED:
        first = tl.load(offsets + sequence)
        behind = tl.load(offsets + sequence + 1)
    else:
        first = sequence * length
        behind = first + length
    return first, behind


@triton.jit
def sequence_of(offsets, row, batch, length, STEPS: tl.constexpr, RAGGED: tl.constexpr):
    """Sequence of each row: the last one that begins at or before it, by binary search."""
    if RAGGED:
        low = row * 0
        high = low + batch
        for _ in tl.static_range(STEPS):
            middle = (low + high) // 2
            begins = tl.load(offsets + middle, mask=middle < batch, other=0)
            after = (begins <= row) & (middle < batch)
            low = tl.where(after & (low < high), middle + 1, low)
            high = tl.where(after, high, middle)
        sequence = tl.maximum(low - 1, 0)
    else:
        sequence = row // length
    return sequence


@triton.jit
def modulated_rows(
    x, h, gate, scale, shift, sequence, inner, column, mask, dim,
    x_batch, x_row, h_batch, h_row, gate_row, scale_row, shift_row, eps,
):  # fmt: skip
    """y and its modulated norm of a tile of rows, with the rows' mean and reciprocal standard deviation."""
    g = tl.load(gate + (sequence * gate_row)[:, None] + column, mask=mask, other=0.0).to(tl.float32)
    a = tl.load(x + (sequence * x_batch + inner * x_row)[:, None] + column, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(h + (sequence * h_batch + inner * h_row)[:, None] + column, mask=mask, other=0.0).to(tl.float32)
    y = a + g * b
    mean = tl.sum(y, 1) / dim
    centred = tl.where(mask, y - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / dim + eps)
    factor = 1.0 + tl.load(scale + (sequence * scale_row)[:, None] + column, mask=mask, other=0.0).to(tl.float32)
    term = tl.load(shift + (sequence * shift_row)[:, None] + column, mask=mask, other=0.0).to(tl.float32)
    return y, centred * rstd[:, None] * factor + term, mean, rstd


@triton.jit
def forward_kernel(
    x, h, gate, scale, shift, offsets, y_out, out, mean_out, rstd_out,
    rows, dim, batch, length, x_batch, x_row, h_batch, h_row, gate_row, scale_row, shift_row, eps,
    ROWS: tl.constexpr, DIM: tl.constexpr, STEPS: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, DIM)[None, :]
    live = row < rows
    mask = live[:, None] & (column < dim)
    sequence = sequence_of(offsets, tl.where(live, row, 0), batch, length, STEPS, RAGGED)
    y, modulated, mean, rstd = modulated_rows(
        x, h, gate, scale, shift, sequence, row - sequence * length, column, mask, dim,
        x_batch, x_row, h_batch, h_row, gate_row, scale_row, shift_row, eps,
    )  # fmt: skip
    place = (row * dim)[:, None] + column
    tl.store(y_out + place, y.to(y_out.dtype.element_ty), mask=mask)
    tl.store(out + place, modulated.to(out.dtype.element_ty), mask=mask)
    tl.store(mean_out + row, mean, mask=live)
    tl.store(rstd_out + row, rstd, mask=live)


@triton.jit
def _pull_rows(
    x, h, g, factor, mean_in, rstd_in, y_grad, out_grad, dx, dh, row, live, sequence, inner, column, mask, dim,
    x_batch, x_row, h_batch, h_row,
    ROWS: tl.constexpr, DIM: tl.constexpr, HAS_Y: tl.constexpr, HAS_OUT: tl.constexpr,
):  # fmt: skip
    """Gradients of x and h of a tile of rows of one sequence; gives what it adds to those of gate, scale and shift."""
    place = (row * dim)[:, None] + column
    x_place = (sequence * x_batch + inner * x_row)[:, None] + column
    h_place = (sequence * h_batch + inner * h_row)[:, None] + column
    b = tl.load(h + h_place, mask=mask, other=0.0).to(tl.float32)
    dy = tl.zeros((ROWS, DIM), tl.float32)
    normed = tl.zeros((ROWS, DIM), tl.float32)
    upstream = tl.zeros((ROWS, DIM), tl.float32)
    if HAS_OUT:
        a = tl.load(x + x_place, mask=mask, other=0.0).to(tl.float32)
        mean = tl.load(mean_in + row, mask=live, other=0.0)[:, None]
        rstd = tl.load(rstd_in + row, mask=live, other=0.0)[:, None]
        normed = tl.where(mask, (a + g * b - mean) * rstd, 0.0)
        upstream = tl.load(out_grad + place, mask=mask, other=0.0).to(tl.float32)
        u = upstream * factor
        average = (tl.sum(u, 1) / dim)[:, None]
        along = (tl.sum(u * normed, 1) / dim)[:, None]
        dy = tl.where(mask, (u - average - normed * along) * rstd, 0.0)
    if HAS_Y:
        dy += tl.load(y_grad + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(dx + place, dy.to(dx.dtype.element_ty), mask=mask)
    tl.store(dh + place, (dy * g).to(dh.dtype.element_ty), mask=mask)
    return tl.sum(dy * b, 0), tl.sum(upstream * normed, 0), tl.sum(upstream, 0)


@triton.jit
def backward_kernel(
    x, h, gate, scale, offsets, mean_in, rstd_in, y_grad, out_grad, dx, dh, partial,
    rows, dim, batch, length, x_batch, x_row, h_batch, h_row, gate_row, scale_row,
    RUN: tl.constexpr, ROWS: tl.constexpr, DIM: tl.constexpr, STEPS: tl.constexpr, RAGGED: tl.constexpr,
    HAS_Y: tl.constexpr, HAS_OUT: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    piece = program * RUN
    stop = tl.minimum(piece + RUN, rows)
    column = tl.arange(0, DIM)
    inside = column < dim
    sequence = sequence_of(offsets, piece, batch, length, STEPS, RAGGED)
    while piece < stop:
        _first, behind = _bounds(offsets, sequence, length, RAGGED)
        end = tl.minimum(behind, stop)
        g = tl.load(gate + sequence * gate_row + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        factor = 1.0 + tl.load(scale + sequence * scale_row + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        gate_sum = tl.zeros((DIM,), tl.float32)
        scale_sum = tl.zeros((DIM,), tl.float32)
        shift_sum = tl.zeros((DIM,), tl.float32)
        cursor = piece
        while cursor < end:
            row = cursor + tl.arange(0, ROWS)
            live = row < end
            mask = live[:, None] & inside[None, :]
            gate_part, scale_part, shift_part = _pull_rows(
                x, h, g, factor, mean_in, rstd_in, y_grad, out_grad, dx, dh,
                row, live, sequence, row - sequence * length, column[None, :], mask, dim,
                x_batch, x_row, h_batch, h_row, ROWS, DIM, HAS_Y, HAS_OUT,
            )  # fmt: skip
            gate_sum += gate_part
            scale_sum += scale_part
            shift_sum += shift_part
            cursor += ROWS
        slot = partial + (program + sequence) * (3 * dim) + column
        tl.store(slot, gate_sum, mask=inside)
        tl.store(slot + dim, scale_sum, mask=inside)
        tl.store(slot + 2 * dim, shift_sum, mask=inside)
        piece = end
        sequence += 1


@triton.jit
def sum_kernel(
    partial, offsets, gate_total, scale_total, shift_total, dim, length,
    RUN: tl.constexpr, COLUMNS: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    width = 3 * dim
    mask = column < width
    first, behind = _bounds(offsets, sequence, length, RAGGED)
    accumulated = tl.zeros((COLUMNS,), tl.float32)
    slot = first // RUN + sequence
    last = tl.where(behind > first, (behind - 1) // RUN + sequence, slot - 1)
    while slot <= last:
        accumulated += tl.load(partial + slot * width + column, mask=mask, other=0.0)
        slot += 1
    target = sequence * dim + column
    tl.store(gate_total + target, accumulated, mask=column < dim)
    tl.store(scale_total + target - dim, accumulated, mask=(column >= dim) & (column < 2 * dim))
    tl.store(shift_total + target - 2 * dim, accumulated, mask=(column >= 2 * dim) & mask)


def forward(
    x: Tensor, h: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, offsets: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y and its modulated norm, then the mean and reciprocal standard deviation of the rows."""
    y, out = x.new_empty(x.shape), x.new_empty(x.shape)
    mean = x.new_empty(x.shape[:-1], dtype=torch.float32)
    rstd = torch.empty_like(mean)
    if x.numel():
        rows, dim, batch, length = _sizes(x, gate, offsets)
        constants = _constants(dim, batch, offsets)
        forward_kernel[(triton.cdiv(rows, constants["ROWS"]),)](
            x, h, gate, scale, shift, _pointer(offsets, mean), y, out, mean, rstd, rows, dim, batch, length,
            *_row_strides(x), *_row_strides(h), gate.stride(0), scale.stride(0), shift.stride(0),
            eps, **constants,
        )  # fmt: skip
    return y, out, mean, rstd


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """Gradients of x, h, gate, scale and shift."""
    x, h, gate, scale, _, offsets, _ = arguments
    dx, dh = x.new_empty(x.shape), h.new_empty(h.shape)
    if not x.numel():
        return dx, dh, None, None, None
    rows, dim, batch, length = _sizes(x, gate, offsets)
    constants = _constants(dim, batch, offsets)
    run = _run(rows, constants["ROWS"])
    runs = triton.cdiv(rows, run)
    partial = x.new_empty((runs + batch, 3, dim), dtype=torch.float32)
    y_gradient, out_gradient = (None if g is None else g.contiguous() for g in gradients)
    backward_kernel[(runs,)](
        x, h, gate, scale, _pointer(offsets, partial), *residuals[1:],
        _pointer(y_gradient, x), _pointer(out_gradient, x),
        dx, dh, partial, rows, dim, batch, length, *_row_strides(x), *_row_strides(h),
        gate.stride(0), scale.stride(0),
        RUN=run, HAS_Y=y_gradient is not None, HAS_OUT=out_gradient is not None, **constants,
    )  # fmt: skip
    totals = [x.new_empty((batch, dim), dtype=torch.float32) for _ in range(3)]
    columns = triton.next_power_of_2(3 * dim) if interpreting() else COLUMNS
    sum_kernel[(batch, triton.cdiv(3 * dim, columns))](
        partial, _pointer(offsets, partial), *totals, dim, length,
        RUN=run, COLUMNS=columns, RAGGED=offsets is not None,
    )  # fmt: skip
    return dx, dh, *totals


def _sizes(x: Tensor, gate: Tensor, offsets: Tensor | None) -> tuple[int, int, int, int]:
    """Rows, channels, sequences, and rows a sequence (0 where they differ)."""
    length = 0 if offsets is not None else x.shape[1]
    return x.numel() // x.shape[-1], x.shape[-1], gate.shape[0], length


def _constants(dim: int, batch: int, offsets: Tensor | None) -> dict[str, Any]:
    padded = triton.next_power_of_2(dim)
    steps = 0 if offsets is None else batch.bit_length() + 1
    return {"ROWS": tile(padded), "DIM": padded, "STEPS": steps, "RAGGED": offsets is not None}


def _run(rows: int, tile_rows: int) -> int:
    """Rows a program of the backward pass: whole tiles, and about 512 programs at most."""
    return max(tile_rows, 16, triton.next_power_of_2(triton.cdiv(rows, 512)))


def _row_strides(x: Tensor) -> tuple[int, int]:
    """Strides of sequence and row; a ragged x has no stride of sequences."""
    return (0, x.stride(0)) if x.dim() == 2 else (x.stride(0), x.stride(1))


def _pointer(x: Tensor | None, stand_in: Tensor) -> Tensor:
    return stand_in if x is None else x


def compilations() -> list[Compilation]:
    """Every kernel at 1536 channels in bf16: dense forward, ragged backward and the final sum."""
    sizes = {"ROWS": 2, "DIM": 2048}
    backward = {"RUN": 64, "HAS_Y": True, "HAS_OUT": True, **sizes}
    return [
        _compilation(forward_kernel, {"STEPS": 0, "RAGGED": False, **sizes}),
        _compilation(backward_kernel, {"STEPS": 6, "RAGGED": True, **backward}),
        _compilation(sum_kernel, {"RUN": 64, "COLUMNS": COLUMNS, "RAGGED": True}),
    ]


def _compilation(kernel: Any, constants: dict[str, Any]) -> Compilation:
    strides = tuple(name for name in kernel.arg_names if name.endswith(("x_batch", "h_batch", "_row")))
    return Compilation(kernel, _types(kernel), constants, ("dim", *strides))


def _types(kernel: Any) -> dict[str, str]:
    activations = ["x", "h", "gate", "scale", "shift", "y_out", "out", "y_grad", "out_grad", "dx", "dh"]
    floats = [
        "mean_out",
        "rstd_out",
        "mean_in",
        "rstd_in",
        "partial",
        "gate_total",
        "scale_total",
        "shift_total",
    ]
    known = dict.fromkeys(activations, "*bf16") | dict.fromkeys(floats, "*fp32") | {"offsets": "*i64", "eps": "fp32"}
    return {name: known.get(name, "i32") for name in kernel.arg_names}
