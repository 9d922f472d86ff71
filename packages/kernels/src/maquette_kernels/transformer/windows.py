"""Attention in windows of tokens put in a row: serialised attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.transformer.ragged_attention import RAGGED_ATTENTION


def window_offsets(offsets: Tensor, tokens: int, window: int, shift: int = 0) -> Tensor:
    """Where the windows of each sequence begin, as offsets of a ragged batch of windows.

    Windows never cross the ends of a sequence. With a shift the first window of each sequence has ``shift`` tokens
    (or all, where there are fewer), so that the others straddle the windows without one. Nothing is read back from
    the device: there are as many windows as there could be, the surplus ones empty and at the end.

    Args:
        offsets: where each sequence begins, int64 [B + 1] from 0 to ``tokens``, never falling.
        tokens: their sum.
        window: tokens a window, at least 1.
        shift: from 0 to ``window - 1``.

    Returns:
        int64 [W + 1] with ``W = (tokens + B * (2 * window - 2)) // window`` or less.

    Raises:
        MaquetteError: a window or shift out of range.
    """
    if window < 1 or not 0 <= shift < window:
        raise MaquetteError(
            f"window_offsets: window {window} and shift {shift} must have 0 <= shift < window; change one"
        )
    lead = (window - shift) % window  # tokens that the first window would begin before its sequence
    first, lengths = offsets[:-1], offsets.diff()
    counts = torch.where(lengths > 0, (lengths + (lead + window - 1)) // window, 0)
    behind = counts.cumsum(0)
    number = torch.arange((tokens + len(first) * (lead + window - 1)) // window, device=offsets.device)
    sequence = torch.searchsorted(behind, number, right=True).clamp(max=max(len(first) - 1, 0))
    inner = (number - (behind - counts)[sequence]) * window - lead
    begins = torch.where(number < behind[-1:], first[sequence] + inner.clamp(min=0), tokens)
    return torch.cat([begins, begins.new_full((1,), tokens)])


def windowed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    order: Tensor | None = None,
    *,
    window: int,
    shift: int = 0,
    offsets: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention of each token to the tokens of its window: tokens are put in ``order``, cut into windows, and the
    results put back.

    With the order of a space-filling curve a window is a compact piece of space, at a cost that grows with the
    number of tokens and not with its square. Alternate layers change the curve, or the ``shift``.

    Args:
        q: queries [T, H, D], the sequences of a ragged batch end to end.
        k: keys, shape and dtype of q.
        v: values, shape and dtype of q.
        order: int64 [T]: the token that comes at each place, a permutation within each sequence (as from
            ``curve_order`` of coordinates with their batch index). None: as they are.
        window: tokens a window, at least 1; the last of a sequence may be shorter.
        shift: tokens in the first window of each sequence, from 0 (which means a full one) to ``window - 1``.
        offsets: where each sequence begins, int64 [B + 1] from 0 to T, never falling. None: one sequence.
        scale: factor of the scores; ``D ** -0.5`` by default.

    Returns:
        [T, H, D] in the tokens' own order. Differentiable in q, k and v; gradients are put back by gathering, so
        they are deterministic.

    Raises:
        MaquetteError: shapes, dtypes, devices, a window or a shift that do not fit.

    Source: windows on a curve as in Point Transformer V3 (Wu et al. 2024, arXiv:2312.10035); shifts as in Swin
    Transformer (Liu et al. 2021, arXiv:2103.14030).
    """
    if offsets is None:
        offsets = torch.tensor([0, q.shape[0]], device=q.device)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    windows = window_offsets(offsets, q.shape[0], window, shift)
    if order is None:
        return RAGGED_ATTENTION(q, k, v, windows, windows, window, window, scale)  # type: ignore[no-any-return]
    if order.shape != q.shape[:1]:
        raise MaquetteError(f"windowed_attention: order must be [{q.shape[0]}], got {list(order.shape)}")
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    rows = [_Permute.apply(x, order, back) for x in (q, k, v)]  # type: ignore[no-untyped-call]
    mixed = RAGGED_ATTENTION(*rows, windows, windows, window, window, scale)
    return _Permute.apply(mixed, back, order)  # type: ignore[no-any-return,no-untyped-call]


class _Permute(torch.autograd.Function):
    """Rows in another order. Its gradient gathers by the inverse; that of indexing would add up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(order, back)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        order, back = ctx.saved_tensors
        return _Permute.apply(gradients[0], back, order), None, None  # type: ignore[no-untyped-call]
