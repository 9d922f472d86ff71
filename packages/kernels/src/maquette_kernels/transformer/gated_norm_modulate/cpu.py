"""``gated_norm_modulate`` in few torch passes for CPUs, in place where they can be: fresh memory costs as
much as arithmetic.

The forward spells normalisation out: torch's own LayerNorm takes longer than the five passes here, because it
finds moments by Welford's recurrence, which pays off for long rows only. So does the backward: torch's rounds more than
the reference may, where a row's mean is large.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maquette_kernels.transformer.gated_norm_modulate.reference import sequence_of_row, working_dtype


def forward(
    x: Tensor, h: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, offsets: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y and its modulated norm, then the mean and reciprocal standard deviation of the rows."""
    dtype = working_dtype(x, h, gate, scale, shift)
    index = None if offsets is None else sequence_of_row(offsets, x.shape[0])
    y = _add_gated(x, _spread(gate.to(dtype), index), h.to(dtype))
    mean = y.mean(-1, keepdim=True)
    centred = y - mean
    squares = centred * centred
    rstd = squares.mean(-1, keepdim=True).add_(eps).rsqrt_()
    factor = _spread(scale.to(dtype) + 1, index)
    out = torch.addcmul(_spread(shift.to(dtype), index), centred.mul_(rstd), factor, out=squares)
    return y.to(x.dtype), out.to(x.dtype), mean.squeeze(-1), rstd.squeeze(-1)


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of x, h, gate, scale and shift.

    With ``n`` the normalised y and ``u = out' * (1 + scale)``: ``dy = y' + rstd * (u - mean(u) - n * mean(u *
    n))``, ``dx = dy``, ``dh = gate * dy``; the gradients of gate, scale and shift are sums of ``dy * h``,
    ``out' * n`` and ``out'`` over the rows of each sequence.
    """
    x, h, gate, scale, shift, offsets, _ = arguments
    y_gradient, upstream = gradients
    dtype = working_dtype(x, h, gate, scale, shift)
    index = None if offsets is None else sequence_of_row(offsets, x.shape[0])
    batch = gate.shape[0]
    gate, h = _spread(gate.to(dtype), index), h.to(dtype)
    scale_gradient = shift_gradient = None
    if upstream is None:
        assert y_gradient is not None  # one of the two is always there
        dy = y_gradient.to(dtype, copy=True)  # an operator must not return what it was given
        products = dy * h
    else:
        y, mean, rstd = residuals[0], residuals[1].unsqueeze(-1), residuals[2].unsqueeze(-1)
        # A y that was rounded to its dtype would do harm where its mean is large.
        y = y if y.dtype == dtype else _add_gated(x, gate, h)
        upstream = upstream.to(dtype)
        products = (y - mean).mul_(upstream)
        scale_gradient = _weighted_sum(products, rstd, index, batch)
        shift_gradient = _sum(upstream, index, batch)
        u = torch.mul(upstream, _spread(scale.to(dtype) + 1, index), out=products)
        dy = _through_norm(u, y, mean, rstd)
        if y_gradient is not None:
            dy.add_(y_gradient)
        torch.mul(dy, h, out=products)
    gate_gradient = _sum(products, index, batch)
    return dy.to(x.dtype), (gate * dy).to(h.dtype), gate_gradient, scale_gradient, shift_gradient


def _spread(condition: Tensor, index: Tensor | None) -> Tensor:
    """[B, D] as [B, 1, D], or as [T, D] by the sequence of each row."""
    return condition.unsqueeze(1) if index is None else condition.index_select(0, index)


def _add_gated(x: Tensor, gate: Tensor, h: Tensor) -> Tensor:
    """``x + gate * h`` in the dtype of h, contiguous whatever the strides of x and h."""
    return torch.addcmul(x.to(h.dtype), gate, h, out=torch.empty(x.shape, dtype=h.dtype))


def _through_norm(u: Tensor, y: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """``rstd * (u - mean(u) - n * mean(u * n))`` with ``n = (y - mean) * rstd``."""
    n = (y - mean).mul_(rstd)
    along = (u * n).mean(-1, keepdim=True)
    return (u - u.mean(-1, keepdim=True)).sub_(n.mul_(along)).mul_(rstd)


def _sum(x: Tensor, index: Tensor | None, batch: int) -> Tensor:
    """Sum of the rows of each sequence, [B, D]; in the order of the rows, so repeats give equal bits."""
    if index is None:
        return x.sum(1)
    return x.new_zeros(batch, x.shape[-1]).index_add_(0, index, x)


def _weighted_sum(x: Tensor, weight: Tensor, index: Tensor | None, batch: int) -> Tensor:
    """:func:`_sum` of ``x * weight`` with one weight a row."""
    if index is None:
        return torch.bmm(weight.transpose(1, 2), x).squeeze(1)
    return _sum(x * weight, index, batch)
