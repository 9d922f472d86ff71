"""The fused way into an fp8 linear layer: gate, residual, norm, modulation and quantisation in one pass, then the
product in 8 bits.
"""

# The operations it calls take all arguments by position.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.transformer.gated_norm_modulate import GATED_NORM_MODULATE
from maquette_kernels.transformer.gated_norm_modulate_quantise import GATED_NORM_MODULATE_QUANTISE
from maquette_kernels.transformer.quantise_rowwise import QUANTISE_ROWWISE


def fp8_modulated_linear(
    x: Tensor,
    h: Tensor,
    gate: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    offsets: Tensor | None = None,
    *,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """``y = x + gate * h`` and ``linear(layer_norm(y) * (1 + scale) + shift, weight, bias)``, the product in fp8.

    Conventions are those of ``train.precision=fp8``: e4m3 with a power-of-two scale for each row of both operands.
    The norm goes into 8 bits without being written in between. Backwards, the gradient of the norm is a product in
    fp8 too, and that of the weight one in the compute dtype with the norm computed again from x and h: no activation
    is kept but the arguments (the recipe ``rowwise_with_gw_hp``).

    Args:
        x: the residual stream, [B, N, D], or [T, D] with the sequences of a ragged batch end to end.
        h: what the last branch gave; shape and dtype of x.
        gate: [B, D], factor of h.
        scale: [B, D], added to 1.
        shift: [B, D].
        weight: [M, D], cast to the compute dtype: autocast's where that is on, else x's.
        bias: [M] or None.
        offsets: of a ragged batch, as in ``gated_norm_modulate``.
        eps: added to the variance.

    Returns:
        y in x's dtype, and [..., M] in the compute dtype. Differentiable in all but the offsets, once; deterministic.
        Where the hardware has no e4m3, CPUs among it, products are emulated: the same numbers but for the order of
        summation, and slower than bfloat16.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: Micikevicius et al. 2022, arXiv:2209.05433; adaLN-Zero of DiT (Peebles and Xie 2022, arXiv:2212.09748).
    """
    if weight.dim() != 2 or weight.shape[1] != x.shape[-1]:
        raise MaquetteError(f"fp8_modulated_linear: weight must be [M, {x.shape[-1]}], got {list(weight.shape)}")
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    y, flat = _ModulatedProduct.apply(x, h, gate, scale, shift, offsets, weight.to(dtype), eps)  # type: ignore[no-untyped-call]
    out = flat.view(*x.shape[:-1], weight.shape[0])
    return y, out if bias is None else out + bias.to(dtype)


class _ModulatedProduct(torch.autograd.Function):
    """y [..., D] and the product [rows, M] of its modulated norm."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h: Tensor,
        gate: Tensor,
        scale: Tensor,
        shift: Tensor,
        offsets: Tensor | None,
        weight: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, h, gate, scale, shift, offsets, weight)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        y, values, rows = GATED_NORM_MODULATE_QUANTISE(x, h, gate, scale, shift, offsets, eps, True)
        weights, columns = QUANTISE_ROWWISE(weight, True)
        return y, _product(values.flatten(0, -2), weights, rows.view(-1, 1), columns.unsqueeze(1), weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        from maquette.precision.fp8_product import matmul  # imports torch's compiler, and that Triton

        *operands, weight = ctx.saved_tensors
        to_y, upstream = gradients
        if to_y is None and upstream is None:
            return (None,) * 8
        arguments = (*operands, ctx.eps)
        # The operators themselves: autograd does not run within a backward pass that torch.compile traces.
        y, normed, *moments = GATED_NORM_MODULATE.handle.forward(*arguments, True)
        to_norm = to_weight = None
        if upstream is not None:
            upstream = upstream.to(weight.dtype)
            rows = normed.flatten(0, -2).to(weight.dtype)
            to_norm = matmul(upstream, weight.t(), fast=False).view(normed.shape).to(normed.dtype)
            to_weight = upstream.t() @ rows if ctx.needs_input_grad[6] else None
        found = GATED_NORM_MODULATE.handle.backward(*arguments, y, *moments, to_y, to_norm)
        return *found, None, to_weight, None


def _product(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """a [M, K] times b [N, K] transposed, both e4m3 with a power-of-two scale a row: [M, N]."""
    from maquette.precision.fp8_product import native, scaled_matmul

    if native(a.device) and dtype == torch.bfloat16:
        return scaled_matmul(a, b, a_scale, b_scale, fast=True)
    # Numbers of e4m3 are exact in bfloat16 too, and powers of two scale without rounding.
    wide = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    with torch.autocast(a.device.type, enabled=False):
        flat = a.to(wide) @ b.to(wide).t()
    return (flat.float() * a_scale * b_scale.t()).to(dtype)
