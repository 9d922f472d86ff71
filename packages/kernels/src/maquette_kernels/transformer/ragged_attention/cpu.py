"""``ragged_attention`` for CPUs: sequences of equal lengths run as one dense batch, of which windows are the best
case.

Dense attention is torch's own kernel for CPUs. Gradients are matrix products in blocks, up to ten times as fast in
bfloat16, and as exact as float32 allows: scores are found again in float32, all else is multiplied in the call's dtype.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maquette_kernels.transformer.ragged_attention.reference import working_dtype

SCATTERED = 64 * 64
"""Pairs of a row and a key up to which equal sequences that do not follow each other are worth copying together."""

BLOCK = 2**18
"""Scores held at once, 1 MB in float32: what a core's cache takes."""

ROWS = 256
"""Queries of a long sequence that are held at once."""

Places = slice | Tensor


def forward(
    q: Tensor, k: Tensor, v: Tensor, q_offsets: Tensor, k_offsets: Tensor, max_q: int, max_k: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Outputs, then the logarithms of the sums of exponentials [H, T]."""
    groups = list(_groups(q_offsets, k_offsets))
    out = _blank(q, [rows for rows, _, _ in groups])
    sums = torch.zeros((q.shape[1], q.shape[0]), dtype=working_dtype(q))
    for rows, keys, count in groups:
        own = [_batch(x, places, count) for x, places in ((q, rows), (k, keys), (v, keys))]
        mixed, logs = _attend(*own, scale)
        out[rows] = mixed.transpose(1, 2).flatten(0, 1)
        sums[:, rows] = logs.transpose(0, 1).flatten(1).to(sums.dtype)
    return out, sums


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    q, k, v, q_offsets, k_offsets, _, _, scale = arguments
    upstream = gradients[0]
    assert upstream is not None  # there is one output
    groups = list(_groups(q_offsets, k_offsets))
    found = [_blank(q, [rows for rows, _, _ in groups]), *(_blank(x, [keys for _, keys, _ in groups]) for x in (k, v))]
    for rows, keys, count in groups:
        sides = ((q, rows), (k, keys), (v, keys), (upstream, rows))
        parts = _pull(*[_batch(x, places, count) for x, places in sides], scale)
        for whole, part, places in zip(found, parts, (rows, keys, keys), strict=True):
            whole[places] = part.transpose(1, 2).flatten(0, 1)
    return found[0], found[1], found[2]


def _groups(q_offsets: Tensor, k_offsets: Tensor) -> Iterator[tuple[Places, Places, int]]:
    """Rows, keys and number of the sequences of each pair of lengths; sequences without rows or keys are left out."""
    q_first, k_first = q_offsets.numpy()[:-1], k_offsets.numpy()[:-1]
    lengths = np.stack([np.diff(q_offsets.numpy()), np.diff(k_offsets.numpy())], 1)
    kinds, which = np.unique(lengths, axis=0, return_inverse=True)
    for number, (q_length, k_length) in enumerate(kinds.tolist()):
        if q_length and k_length:
            members = np.flatnonzero(which.reshape(-1) == number)
            apart = np.flatnonzero(np.diff(members) > 1) + 1 if q_length * k_length > SCATTERED else []
            for run in np.split(members, apart):
                yield _places(q_first[run], q_length), _places(k_first[run], k_length), len(run)


def _places(first: np.ndarray[Any, Any], length: int) -> Places:
    """Rows of several runs of one length: a slice where they follow each other, so that nothing is copied."""
    if bool((np.diff(first) == length).all()):
        return slice(int(first[0]), int(first[-1]) + length)
    return torch.from_numpy(first[:, None] + np.arange(length)).flatten()


def _blank(x: Tensor, places: Sequence[Places]) -> Tensor:
    """Room for rows like those of x, zeros only if some of them have no place among those to be written."""
    written = sum(p.stop - p.start if isinstance(p, slice) else len(p) for p in places)
    return (torch.empty if written == len(x) else torch.zeros)(x.shape, dtype=x.dtype)


def _batch(x: Tensor, places: Places, count: int) -> Tensor:
    """Rows [T, H, D] of equal sequences as [sequences, H, rows, D]."""
    return x[places].unflatten(0, (count, -1)).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Dense attention [n, H, rows, D], and the logarithms of its sums [n, H, rows]."""
    # The operator behind scaled_dot_product_attention, called by name for the logarithms that it keeps.
    out, logs = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        *(_rows_whole(x) for x in (q, k, v)), 0.0, False, scale=scale
    )
    return out, logs


def _pull(q: Tensor, k: Tensor, v: Tensor, upstream: Tensor, scale: float) -> list[Tensor]:
    """Gradients of q, k and v of one dense batch, a few sequences or a block of one sequence's rows at a time."""
    parts = []
    for few in _in_parts(q, k, v, upstream):
        parts.append(_pull_block(*few, scale) if q.shape[2] <= ROWS else _pull_long(*few, scale))
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def _pull_block(q: Tensor, k: Tensor, v: Tensor, upstream: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """With weights ``p``: ``dv = p^T out'``, ``ds = p * (out' v^T - sum(p * out' v^T)) * scale``, ``dq = ds k`` and
    ``dk = ds^T q``.

    Weights are found again from the scores: the logarithms that torch's kernel keeps are good to four digits.
    """
    dtype = working_dtype(q)
    weights = torch.matmul(q.to(dtype) * scale, k.to(dtype).transpose(-1, -2)).softmax(-1)
    v_gradient = torch.matmul(weights.to(v.dtype).transpose(-1, -2), upstream)
    slopes = torch.matmul(upstream, v.transpose(-1, -2)).to(dtype)
    slopes = slopes.sub_((slopes * weights).sum(-1, keepdim=True)).mul_(weights).mul_(scale).to(q.dtype)
    return torch.matmul(slopes, k), torch.matmul(slopes.transpose(-1, -2), q), v_gradient


def _pull_long(q: Tensor, k: Tensor, v: Tensor, upstream: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`_pull_block` over blocks of rows; gradients of keys and values are summed in float32 at least."""
    q_parts: list[Tensor] = []
    totals = [torch.zeros(x.shape, dtype=working_dtype(q)) for x in (k, v)]
    for start in range(0, q.shape[2], ROWS):
        rows = slice(start, start + ROWS)
        part, *shared = _pull_block(q[:, :, rows], k, v, upstream[:, :, rows], scale)
        q_parts.append(part)
        for total, own in zip(totals, shared, strict=True):
            total.add_(own)
    return torch.cat(q_parts, 2), totals[0].to(k.dtype), totals[1].to(v.dtype)


def _in_parts(q: Tensor, k: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The batch in runs of sequences whose scores fit the cache."""
    few = max(1, BLOCK // (q.shape[1] * q.shape[2] * k.shape[2]))
    return zip(*(x.split(few) for x in (q, k, *others)), strict=True)


def _rows_whole(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
