"""The obvious code for ``qk_norm_rope``: right in fp64, slow, and independent of the fast paths."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(activations: Tensor, weight: Tensor) -> torch.dtype:
    """Dtype of the arithmetic: at least float32, float64 where an operand has it."""
    return torch.promote_types(torch.promote_types(activations.dtype, weight.dtype), torch.float32)


def reference(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    positions: Tensor,
    eps: float = 1e-6,
    theta: float = 10000.0,
) -> tuple[Tensor, Tensor]:
    """``rotate(rms_norm(q, q_weight), positions)`` and the same for k; shapes as in ``ops.qk_norm_rope``."""
    rotated_q = rotate(rms_norm(q, q_weight, eps), positions, theta)
    rotated_k = rotate(rms_norm(k, k_weight, eps), positions, theta)
    return rotated_q.to(q.dtype), rotated_k.to(k.dtype)


def residuals(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    positions: Tensor,
    eps: float = 1e-6,
    theta: float = 10000.0,
) -> tuple[Tensor, Tensor]:
    """Reciprocal root mean squares of the rows of q and k, [B, N, H], kept for the backward pass."""
    return (
        reciprocal_rms(q.to(working_dtype(q, q_weight)), eps).squeeze(-1),
        reciprocal_rms(k.to(working_dtype(k, k_weight)), eps).squeeze(-1),
    )


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension, in the working dtype."""
    x = x.to(working_dtype(x, weight))
    return x * reciprocal_rms(x, eps) * weight


def reciprocal_rms(x: Tensor, eps: float) -> Tensor:
    """``1 / sqrt(mean(x^2) + eps)`` of each row, last dimension kept as 1."""
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def rotate(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotate the pairs ``(x[i], x[i + D/2])`` of rows [B, N, H, D] by the phases of their token."""
    half = x.shape[-1] // 2
    per_axis = half // 3
    exponents = torch.arange(per_axis, dtype=torch.float64, device=x.device) / max(per_axis, 1)
    frequencies = (theta**-exponents).to(x.dtype)
    phases = (positions.to(x.dtype)[..., None] * frequencies).flatten(-2)
    phases = torch.nn.functional.pad(phases, (0, half - 3 * per_axis)).unsqueeze(-2)
    first, second = x.split(half, dim=-1)
    cos, sin = phases.cos(), phases.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
