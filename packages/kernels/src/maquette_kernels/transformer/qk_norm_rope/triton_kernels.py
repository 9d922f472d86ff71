"""``qk_norm_rope`` in Triton: one forward kernel and one backward kernel, each reading and writing every row
once.

A program holds TOKENS tokens with all their heads, as two tiles [TOKENS, HEADS, HALF] for the first and
second elements of the rotated pairs, so the phases of a token are computed once for q, k and every head.
Arithmetic is in float32. Weight gradients are summed in two stages through a buffer of partial sums: no
atomics, so repeats give equal bits.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.transformer.qk_norm_rope.phases import frequencies, pairs_per_axis
from maquette_kernels.triton_support import Compilation, tile

PARTIAL_SUMS = 512
"""At most about this many programs write partial weight gradients."""


@triton.jit
def _phases(positions, table, batch, token, live, p_batch, per_axis, HALF: tl.constexpr):
    pair = tl.arange(0, HALF)
    turns = pair < 3 * per_axis
    axis = tl.where(turns, pair // per_axis, 0)
    frequency = tl.load(table + pair - axis * per_axis, mask=turns, other=0.0)
    place = (batch * p_batch + token * 3)[:, None] + axis[None, :]
    coordinate = tl.load(positions + place, mask=live[:, None] & turns[None, :], other=0.0).to(tl.float32)
    phase = coordinate * frequency[None, :]
    return tl.cos(phase)[:, None, :], tl.sin(phase)[:, None, :]


@triton.jit
def _norm_rotate_rows(x, w, out, rstd_out, source, target, row, row_mask, mask, pair, half, cos, sin, eps):
    first = tl.load(x + source, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(x + source + half, mask=mask, other=0.0).to(tl.float32)
    rstd = tl.rsqrt(tl.sum(first * first + second * second, 2) / (2 * half) + eps)
    tl.store(rstd_out + row, rstd, mask=row_mask)
    w_first = tl.load(w + pair, mask=pair < half, other=0.0).to(tl.float32)[None, None, :]
    w_second = tl.load(w + pair + half, mask=pair < half, other=0.0).to(tl.float32)[None, None, :]
    first = first * rstd[:, :, None] * w_first
    second = second * rstd[:, :, None] * w_second
    tl.store(out + target, (first * cos - second * sin).to(out.dtype.element_ty), mask=mask)
    tl.store(out + target + half, (first * sin + second * cos).to(out.dtype.element_ty), mask=mask)


@triton.jit
def forward_kernel(
    q, k, q_weight, k_weight, positions, table, q_out, k_out, q_rstd, k_rstd,
    all_tokens, tokens, heads, half, per_axis, q_batch, q_token, q_head, k_batch, k_token, k_head,
    p_batch, eps,
    TOKENS: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    head = tl.arange(0, HEADS)
    pair = tl.arange(0, HALF)
    live = index < all_tokens
    batch = index // tokens
    token = index - batch * tokens
    cos, sin = _phases(positions, table, batch, token, live, p_batch, per_axis, HALF)
    row_mask = live[:, None] & (head < heads)[None, :]
    mask = row_mask[:, :, None] & (pair < half)[None, None, :]
    row = index[:, None] * heads + head[None, :]
    target = (row * (2 * half))[:, :, None] + pair[None, None, :]
    q_row = (batch * q_batch + token * q_token)[:, None] + (head * q_head)[None, :]
    k_row = (batch * k_batch + token * k_token)[:, None] + (head * k_head)[None, :]
    q_source = q_row[:, :, None] + pair[None, None, :]
    k_source = k_row[:, :, None] + pair[None, None, :]
    _norm_rotate_rows(q, q_weight, q_out, q_rstd, q_source, target, row, row_mask, mask, pair, half, cos, sin, eps)
    _norm_rotate_rows(k, k_weight, k_out, k_rstd, k_source, target, row, row_mask, mask, pair, half, cos, sin, eps)


@triton.jit
def _rotate_back_rows(g, x, w, rstd_in, dx, g_source, source, target, row, row_mask, mask, pair, half, cos, sin):
    g_first = tl.load(g + g_source, mask=mask, other=0.0).to(tl.float32)
    g_second = tl.load(g + g_source + half, mask=mask, other=0.0).to(tl.float32)
    turned_first = g_first * cos + g_second * sin
    turned_second = g_second * cos - g_first * sin
    rstd = tl.load(rstd_in + row, mask=row_mask, other=0.0)[:, :, None]
    n_first = tl.load(x + source, mask=mask, other=0.0).to(tl.float32) * rstd
    n_second = tl.load(x + source + half, mask=mask, other=0.0).to(tl.float32) * rstd
    w_first = tl.load(w + pair, mask=pair < half, other=0.0).to(tl.float32)[None, None, :]
    w_second = tl.load(w + pair + half, mask=pair < half, other=0.0).to(tl.float32)[None, None, :]
    product_first = turned_first * n_first
    product_second = turned_second * n_second
    along = (tl.sum(product_first * w_first + product_second * w_second, 2) / (2 * half))[:, :, None]
    dx_first = (turned_first * w_first - n_first * along) * rstd
    dx_second = (turned_second * w_second - n_second * along) * rstd
    tl.store(dx + target, dx_first.to(dx.dtype.element_ty), mask=mask)
    tl.store(dx + target + half, dx_second.to(dx.dtype.element_ty), mask=mask)
    return tl.sum(tl.sum(product_first, 0), 0), tl.sum(tl.sum(product_second, 0), 0)


@triton.jit
def _step_back(
    g, x, w, rstd_in, dx, g_batch, g_token, g_head, x_batch, x_token, x_head,
    batch, token, head, pair, half, row, row_mask, cos, sin,
):  # fmt: skip
    """Gradient of a tile of rows of q or of k; gives what it adds to that of the weight, by halves."""
    column = pair[None, None, :]
    mask = row_mask[:, :, None] & (column < half)
    target = (row * (2 * half))[:, :, None] + column
    source = ((batch * x_batch + token * x_token)[:, None] + (head * x_head)[None, :])[:, :, None] + column
    g_source = ((batch * g_batch + token * g_token)[:, None] + (head * g_head)[None, :])[:, :, None] + column
    return _rotate_back_rows(
        g, x, w, rstd_in, dx, g_source, source, target, row, row_mask, mask, pair, half, cos, sin
    )  # fmt: skip


@triton.jit
def backward_kernel(
    q, k, q_weight, k_weight, positions, table, q_rstd, k_rstd, q_grad, k_grad, dq, dk, partial,
    all_tokens, tokens, heads, half, per_axis, q_batch, q_token, q_head, k_batch, k_token, k_head,
    qg_batch, qg_token, qg_head, kg_batch, kg_token, kg_head, p_batch,
    ITERATIONS: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS)
    pair = tl.arange(0, HALF)
    dqw_first = tl.zeros((HALF,), tl.float32)
    dqw_second = tl.zeros((HALF,), tl.float32)
    dkw_first = tl.zeros((HALF,), tl.float32)
    dkw_second = tl.zeros((HALF,), tl.float32)
    for step in range(ITERATIONS):
        index = (program * ITERATIONS + step) * TOKENS + tl.arange(0, TOKENS)
        live = index < all_tokens
        batch = index // tokens
        token = index - batch * tokens
        cos, sin = _phases(positions, table, batch, token, live, p_batch, per_axis, HALF)
        row_mask = live[:, None] & (head < heads)[None, :]
        row = index[:, None] * heads + head[None, :]
        sum_first, sum_second = _step_back(
            q_grad, q, q_weight, q_rstd, dq, qg_batch, qg_token, qg_head, q_batch, q_token, q_head,
            batch, token, head, pair, half, row, row_mask, cos, sin,
        )  # fmt: skip
        dqw_first += sum_first
        dqw_second += sum_second
        sum_first, sum_second = _step_back(
            k_grad, k, k_weight, k_rstd, dk, kg_batch, kg_token, kg_head, k_batch, k_token, k_head,
            batch, token, head, pair, half, row, row_mask, cos, sin,
        )  # fmt: skip
        dkw_first += sum_first
        dkw_second += sum_second
    slot = partial + program * (4 * half) + pair
    tl.store(slot, dqw_first, mask=pair < half)
    tl.store(slot + half, dqw_second, mask=pair < half)
    tl.store(slot + 2 * half, dkw_first, mask=pair < half)
    tl.store(slot + 3 * half, dkw_second, mask=pair < half)


def forward(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, positions: Tensor, eps: float, theta: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotated q and k, then the reciprocal root mean squares of their rows."""
    batch, tokens, heads, dim = q.shape
    q_out, k_out = q.new_empty(q.shape), k.new_empty(k.shape)
    q_rstd = q.new_empty((batch, tokens, heads), dtype=torch.float32)
    k_rstd = torch.empty_like(q_rstd)
    if q.numel():
        constants = _constants(heads, dim)
        programs = triton.cdiv(batch * tokens, constants["TOKENS"])
        forward_kernel[(programs,)](
            q, k, q_weight.contiguous(), k_weight.contiguous(), positions.contiguous(), _table(q, theta),
            q_out, k_out, q_rstd, k_rstd, batch * tokens, tokens, heads, dim // 2, pairs_per_axis(dim),
            *q.stride()[:3], *k.stride()[:3], _batch_stride(positions), eps, **constants,
        )  # fmt: skip
    return q_out, k_out, q_rstd, k_rstd


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of q, k and both weights."""
    q, k, q_weight, k_weight, positions, _, theta = arguments
    batch, tokens, heads, dim = q.shape
    q_grad, k_grad = (_rows(torch.zeros_like(q) if g is None else g) for g in gradients)
    dq, dk = q.new_empty(q.shape), k.new_empty(k.shape)
    if not q.numel():
        return dq, dk, None, None
    constants = _constants(heads, dim)
    blocks = triton.cdiv(batch * tokens, constants["TOKENS"])
    iterations = triton.next_power_of_2(triton.cdiv(blocks, PARTIAL_SUMS))
    programs = triton.cdiv(blocks, iterations)
    partial = q.new_empty((programs, 2, dim), dtype=torch.float32)
    backward_kernel[(programs,)](
        q, k, q_weight.contiguous(), k_weight.contiguous(), positions.contiguous(), _table(q, theta),
        *residuals, q_grad, k_grad, dq, dk, partial, batch * tokens, tokens, heads, dim // 2,
        pairs_per_axis(dim),
        *q.stride()[:3], *k.stride()[:3], *q_grad.stride()[:3], *k_grad.stride()[:3],
        _batch_stride(positions),
        ITERATIONS=iterations, **constants,
    )  # fmt: skip
    return dq, dk, partial[:, 0].sum(0), partial[:, 1].sum(0)


def _constants(heads: int, dim: int) -> dict[str, int]:
    padded_heads, padded_half = triton.next_power_of_2(heads), triton.next_power_of_2(dim // 2)
    return {
        "TOKENS": tile(padded_heads * padded_half, limit=2048),
        "HEADS": padded_heads,
        "HALF": padded_half,
    }


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _table(q: Tensor, theta: float) -> Tensor:
    return frequencies(q.shape[-1], theta, torch.float32, q.device)


def _batch_stride(positions: Tensor) -> int:
    return 0 if positions.dim() == 2 else positions.shape[-2] * 3


def compilations() -> list[Compilation]:
    """Both kernels for 12 heads of 128 channels in bf16, and the forward for a small float32 model."""
    large = {"TOKENS": 2, "HEADS": 16, "HALF": 64}
    return [
        _compilation(forward_kernel, "bf16", large),
        _compilation(forward_kernel, "fp32", {"TOKENS": 8, "HEADS": 4, "HALF": 16}),
        _compilation(backward_kernel, "bf16", {"ITERATIONS": 4, **large}),
    ]


def _compilation(kernel: Any, activations: str, constants: dict[str, int]) -> Compilation:
    strides = tuple(name for name in kernel.arg_names if name.endswith(("_batch", "_token", "_head")))
    return Compilation(kernel, _types(kernel, activations), constants, ("half", *strides))


def _types(kernel: Any, activations: str) -> dict[str, str]:
    pointers = dict.fromkeys(["q", "k", "q_out", "k_out", "q_grad", "k_grad", "dq", "dk"], f"*{activations}")
    floats = ["q_weight", "k_weight", "positions", "table", "q_rstd", "k_rstd", "partial"]
    known = pointers | dict.fromkeys(floats, "*fp32") | {"eps": "fp32"}
    return {name: known.get(name, "i32") for name in kernel.arg_names}
