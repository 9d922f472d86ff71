"""``qk_norm_rope`` in few torch passes for CPUs.

A rotation is two products with tables, ``x * cos + swap(x) * sin``, where ``swap`` exchanges the halves of a
head and the norm's weights are folded into the tables. Tables are laid out as [N, H, D], so that every pass
runs over long contiguous rows; broadcasting over heads instead would make each inner loop as short as one
head, and three times slower.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maquette_kernels.transformer.qk_norm_rope.phases import cos_sin
from maquette_kernels.transformer.qk_norm_rope.reference import working_dtype


def forward(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, positions: Tensor, eps: float, theta: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotated q and k, then the reciprocal root mean squares of their rows."""
    dtype = working_dtype(q, q_weight)
    cos, sin = cos_sin(positions, q.shape[-1], theta, dtype)
    rotated_q, q_rstd = _norm_rotate(q, q_weight.to(dtype), cos, sin, eps)
    rotated_k, k_rstd = _norm_rotate(k, k_weight.to(dtype), cos, sin, eps)
    return rotated_q, rotated_k, q_rstd, k_rstd


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of q, k and both weights."""
    q, k, q_weight, k_weight, positions, _, theta = arguments
    dtype = working_dtype(q, q_weight)
    cos, sin = cos_sin(positions, q.shape[-1], theta, dtype)
    keep, cross = _over_heads(torch.cat([cos, cos], -1), q), _over_heads(torch.cat([sin, -sin], -1), q)
    q_gradient, q_weight_gradient = _rotate_back(gradients[0], q, q_weight.to(dtype), residuals[0], keep, cross)
    k_gradient, k_weight_gradient = _rotate_back(gradients[1], k, k_weight.to(dtype), residuals[1], keep, cross)
    return q_gradient, k_gradient, q_weight_gradient, k_weight_gradient


def _over_heads(table: Tensor, x: Tensor) -> Tensor:
    """A table [..., N, D] repeated for every head of x [B, N, H, D]: [..., N, H, D], contiguous."""
    return table.unsqueeze(-2).expand(*table.shape[:-1], x.shape[2], x.shape[3]).contiguous()


def _swap(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat([x[..., half:], x[..., :half]], dim=-1)


def _mean_over_row(x: Tensor, weight: Tensor) -> Tensor:
    """``sum(x * weight) / D`` of each row of a contiguous [B, N, H, D], as [B, N, H, 1]; one pass."""
    return torch.mv(x.flatten(0, -2), weight).div_(x.shape[-1]).view(*x.shape[:-1], 1)


def _norm_rotate(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    first, second = weight.chunk(2)
    keep = _over_heads(torch.cat([cos * first, cos * second], -1), x)
    cross = _over_heads(torch.cat([sin * -second, sin * first], -1), x)
    rows = x.to(cos.dtype, memory_format=torch.contiguous_format)
    squares = rows * rows
    rstd = _mean_over_row(squares, torch.ones_like(weight)).add_(eps).rsqrt_()
    normed = torch.mul(rows, rstd, out=squares)
    rotated = _swap(normed).mul_(cross).addcmul_(normed, keep)
    return rotated.to(x.dtype), rstd.squeeze(-1)


def _rotate_back(
    gradient: Tensor | None, x: Tensor, weight: Tensor, rstd: Tensor, keep: Tensor, cross: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the rows and of the weight.

    With ``n = x * rstd`` and ``u`` the gradient turned back: ``dw = sum(u * n)`` over all rows and
    ``dx = rstd * (u * w - n * mean(u * w * n))``.
    """
    if gradient is None:
        return None, None
    gradient = gradient.to(keep.dtype, memory_format=torch.contiguous_format)
    turned = _swap(gradient).mul_(cross).addcmul_(gradient, keep)
    rstd = rstd.unsqueeze(-1)
    normed = x.to(keep.dtype, memory_format=torch.contiguous_format) * rstd
    products = turned * normed
    dw = products.flatten(0, -2).sum(0)
    along = _mean_over_row(products, weight).neg_()
    dx = turned.mul_(weight.expand(x.shape[1:]).contiguous()).addcmul_(normed, along).mul_(rstd)
    return dx.to(x.dtype), dw
