"""The obvious code for ``ragged_attention``: right in fp64, slow, and independent of the fast paths."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from itertools import pairwise

import torch
from einops import einsum, rearrange
from torch import Tensor


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    max_q: int,
    max_k: int,
    scale: float,
) -> Tensor:
    """``softmax(q k^T * scale) v`` in each sequence and head; zeros where a sequence has no keys.

    Written as a quotient of two sums, as attention is computed wherever the weights are never held whole: gradients
    then cancel as they do there. In a narrow dtype the weights are rounded to it before they meet the values.
    """
    parts = [q.new_zeros(0, *q.shape[1:])]
    for scores, rows, keys in _scores(q, k, q_offsets, k_offsets, scale):
        if not scores.shape[-1]:
            parts.append(torch.zeros_like(q[rows]))
            continue
        weights = (scores - scores.detach().amax(-1, keepdim=True)).exp()
        mixed = einsum(weights.to(v.dtype).to(scores.dtype), v[keys].to(scores.dtype), "h i j, j h d -> i h d")
        parts.append((mixed / rearrange(weights.sum(-1), "h i -> i h 1")).to(q.dtype))
    return torch.cat(parts)


def residuals(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    max_q: int,
    max_k: int,
    scale: float,
) -> tuple[Tensor]:
    """Logarithm of the sum of each row's exponentials, [H, T], 0 where a sequence has no keys."""
    parts = [torch.zeros(q.shape[1], 0, dtype=working_dtype(q), device=q.device)]
    for scores, _, _ in _scores(q, k, q_offsets, k_offsets, scale):
        parts.append(scores.logsumexp(-1) if scores.shape[-1] else scores.new_zeros(scores.shape[:2]))
    return (torch.cat(parts, -1),)


def working_dtype(q: Tensor) -> torch.dtype:
    """Dtype of scores and their sums: at least float32."""
    return torch.promote_types(q.dtype, torch.float32)


def _scores(
    q: Tensor, k: Tensor, q_offsets: Tensor, k_offsets: Tensor, scale: float
) -> list[tuple[Tensor, slice, slice]]:
    """Scores [H, rows, keys] of each sequence that has rows, and where its rows and keys lie."""
    found = []
    ends = [pairwise(offsets.tolist()) for offsets in (q_offsets, k_offsets)]
    for (q_first, q_behind), (k_first, k_behind) in zip(*ends, strict=True):
        rows, keys = slice(q_first, q_behind), slice(k_first, k_behind)
        if q_behind > q_first:
            wide = (q[rows].to(working_dtype(q)), k[keys].to(working_dtype(q)))
            found.append((einsum(*wide, "i h d, j h d -> h i j") * scale, rows, keys))
    return found
