"""The obvious code for ``gated_norm_modulate``: right in fp64, slow, and independent of the fast paths."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(*operands: Tensor) -> torch.dtype:
    """Dtype of the arithmetic: at least float32, float64 where an operand has it."""
    dtype = torch.float32
    for operand in operands:
        if operand.dtype != dtype:
            dtype = torch.promote_types(dtype, operand.dtype)
    return dtype


def reference(
    x: Tensor,
    h: Tensor,
    gate: Tensor,
    scale: Tensor,
    shift: Tensor,
    offsets: Tensor | None = None,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """``y = x + gate * h`` and ``layer_norm(y) * (1 + scale) + shift``; shapes as in
    ``ops.gated_norm_modulate``.
    """
    dtype = working_dtype(x, h, gate, scale, shift)
    gate, scale, shift = (spread(c.to(dtype), x, offsets) for c in (gate, scale, shift))
    y = x.to(dtype) + gate * h.to(dtype)
    centred = y - y.mean(-1, keepdim=True)
    normed = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    return y.to(x.dtype), (normed * (1 + scale) + shift).to(x.dtype)


def residuals(
    x: Tensor,
    h: Tensor,
    gate: Tensor,
    scale: Tensor,
    shift: Tensor,
    offsets: Tensor | None = None,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal standard deviation of each row of y, kept for the backward pass."""
    dtype = working_dtype(x, h, gate, scale, shift)
    y = x.to(dtype) + spread(gate.to(dtype), x, offsets) * h.to(dtype)
    mean = y.mean(-1)
    return mean, torch.rsqrt((y - mean.unsqueeze(-1)).square().mean(-1) + eps)


def spread(condition: Tensor, x: Tensor, offsets: Tensor | None) -> Tensor:
    """One vector a sequence, [B, D], as one a token: [B, 1, D] for a dense x, [T, D] for a ragged one."""
    if offsets is None:
        return condition.unsqueeze(1)
    return condition[sequence_of_row(offsets, x.shape[0])]


def sequence_of_row(offsets: Tensor, rows: int) -> Tensor:
    """Which sequence each of the rows belongs to, int64 [rows]; no data is read back from the device."""
    return torch.searchsorted(offsets, torch.arange(rows, device=offsets.device), right=True) - 1
