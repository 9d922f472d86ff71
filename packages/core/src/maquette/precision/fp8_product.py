"""The arithmetic of fp8 linear layers: rowwise scaling, the 8-bit product and its gradients.

Micikevicius et al., "FP8 Formats for Deep Learning", 2022. Everything is e4m3, gradients too: a scale for every row
covers the range that e5m2 would otherwise be needed for, and the third bit of mantissa halves the error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
TINIEST = 2.0**-100  # a scale below it would be subnormal; rows this small are zero for any purpose
TILE = 16  # tensor cores take 8-bit operands in multiples of it
NATIVE = (8, 9)  # the first compute capability that multiplies e4m3


def quantize(x: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """``x`` in 8 bits with one power-of-two scale for each slice along ``dim``.

    A power of two rescales without rounding, so that a weight means the same in the forward and the backward product.

    Args:
        x: any float dtype and shape.
        dim: the axis over which a product will sum.

    Returns:
        values: e4m3, of the shape of x.
        scale: float32, size 1 along ``dim``; ``values * scale`` is x, within 1/16 of each entry or 2^-10 of a scale.
    """
    wide = x.float()
    needed = (wide.abs().amax(dim=dim, keepdim=True) / LARGEST).clamp(min=TINIEST)
    scale = power_of_two(needed)
    return (wide / scale).clamp(-LARGEST, LARGEST).to(E4M3), scale


def power_of_two(x: Tensor) -> Tensor:
    """The least power of two that is at least x, for positive normal float32; exact, by the bits."""
    return ((x.view(torch.int32) + 0x7FFFFF) & -0x800000).view(torch.float32)


def matmul(a: Tensor, b: Tensor, *, fast: bool) -> Tensor:
    """a [M, K] times b [N, K] transposed, both quantised along K: [M, N] in a's dtype.

    Args:
        a: and b: bfloat16 or float32, on one device.
        fast: sums in the tensor core's own, shorter accumulator; good enough for a forward pass.
    """
    qa, scale_a = quantize(a)
    qb, scale_b = quantize(b)
    if native(a.device) and a.dtype == torch.bfloat16:
        return scaled_matmul(qa, qb, scale_a, scale_b, fast)
    return emulated_matmul(qa, qb, scale_a, scale_b).to(a.dtype)


def scaled_matmul(qa: Tensor, qb: Tensor, scale_a: Tensor, scale_b: Tensor, fast: bool) -> Tensor:
    """qa [M, K] and qb [N, K] of e4m3 with scales [M, 1] and [N, 1], by the hardware: [M, N] bfloat16.

    The sum's length K is padded with zeros to what the hardware takes; M and N are the caller's to choose.
    """
    missing = -qa.shape[1] % TILE
    if missing:
        qa, qb = F.pad(qa, (0, missing)), F.pad(qb, (0, missing))
    return torch._scaled_mm(
        qa.contiguous(),
        qb.contiguous().t(),
        scale_a=scale_a,
        scale_b=scale_b.t(),
        out_dtype=torch.bfloat16,
        use_fast_accum=fast,
    )


def emulated_matmul(qa: Tensor, qb: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
    """What the hardware does, in float32: products of e4m3 are exact there, only the order of summation differs."""
    with torch.autocast(qa.device.type, enabled=False):
        return (qa.float() @ qb.float().t()) * scale_a * scale_b.t()


@torch.compiler.assume_constant_result
def native(device: torch.device) -> bool:
    """Whether a device multiplies e4m3 itself."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= NATIVE


class Fp8Product(torch.autograd.Function):
    """x [M, K] times weight [N, K] transposed, with all three products of training in fp8.

    With ``exact_weight_gradient`` the gradient of the weight is a product of x's own dtype.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, exact_weight_gradient: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.exact_weight_gradient = exact_weight_gradient
        return matmul(x, weight, fast=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].to(x.dtype)
        to_x = matmul(gradient, weight.t(), fast=False) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_x, None, None
        if ctx.exact_weight_gradient:
            return to_x, gradient.t() @ x, None
        return to_x, matmul(gradient.t(), x.t(), fast=False), None


def fp8_product(x: Tensor, weight: Tensor, exact_weight_gradient: bool = False) -> Tensor:
    """x [..., K] times weight [N, K] transposed, [..., N], in fp8 forward and backward.

    The result has autocast's dtype where that is on, else x's; the weight is cast to it.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    rows = x.to(dtype).flatten(0, -2)
    flat: Tensor = Fp8Product.apply(rows, weight.to(dtype), exact_weight_gradient)  # type: ignore[no-untyped-call]
    return flat.view(*x.shape[:-1], -1)
