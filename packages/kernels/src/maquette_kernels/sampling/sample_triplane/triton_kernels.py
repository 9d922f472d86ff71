"""``sample_triplane`` in Triton: taps found for all twelve at once, then weighed rows of texels."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.sampling import taps_triton
from maquette_kernels.sampling.sample_triplane.layout import as_planes, sample_shape, taps_of_a_sample, texels
from maquette_kernels.triton_support import Compilation

BLOCK = 64
"""Points that one program locates."""


@triton.jit
def _side(points, place, axis, upper, mask, column, side, CLAMP: tl.constexpr):
    """Texel of each tap on one axis, whether it is on the plane, its weight, and the weight's slope."""
    value = tl.load(points + place + axis * column, mask=mask, other=0.0)
    at = ((value + 1) * side - 1) / 2
    slope = (upper - 0.5) * side
    if CLAMP:
        slope = tl.where((at <= 0) | (at >= side - 1), 0.0, slope)
        at = tl.where(at <= 0, 0.0, at)
        at = tl.where(at >= side - 1, (side - 1) * 1.0, at)
    inside = mask & (at > -1) & (at < side)
    at = tl.where(inside, at, 0.0)
    base = tl.floor(at)
    texel = base.to(tl.int32) + upper
    weight = tl.where(upper == 1, at - base, base + 1 - at)
    return texel, inside & (texel >= 0) & (texel < side), weight, slope


@triton.jit
def locate_kernel(
    points, index, weights, samples, count, side, batch_stride, row, column, CLAMP: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    m = (tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK))[:, None]
    tap = tl.arange(0, 16)[None, :]
    mask = (m < samples) & (tap < 12)
    plane = tap // 4
    place = (m // count) * batch_stride + (m % count) * row
    u, u_inside, u_weight, _ = _side(points, place, plane // 2, tap % 2, mask, column, side, CLAMP)
    v, v_inside, v_weight, _ = _side(points, place, 1 + (plane + 1) // 2, tap // 2 % 2, mask, column, side, CLAMP)
    there = u_inside & v_inside
    texel = (((m // count) * 3 + plane) * side + v) * side + u
    tl.store(index + m * 12 + tap, tl.where(there, texel, -1).to(tl.int32), mask=mask)
    tl.store(weights + m * 12 + tap, tl.where(there, u_weight * v_weight, 0.0), mask=mask)


@triton.jit
def pull_kernel(
    points, index, dots, out, samples, count, side, batch_stride, row, column,
    CLAMP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    m = (tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK))[:, None]
    tap = tl.arange(0, 16)[None, :]
    mask = (m < samples) & (tap < 12)
    across, down = tap // 4 // 2, 1 + (tap // 4 + 1) // 2
    place = (m // count) * batch_stride + (m % count) * row
    _u, _, u_weight, u_slope = _side(points, place, across, tap % 2, mask, column, side, CLAMP)
    _v, _, v_weight, v_slope = _side(points, place, down, tap // 2 % 2, mask, column, side, CLAMP)
    there = tl.load(index + m * 12 + tap, mask=mask, other=-1) >= 0
    dot = tl.load(dots + m * 12 + tap, mask=there, other=0.0)
    u_gradient = tl.where(there, dot * u_slope * v_weight, 0.0)
    v_gradient = tl.where(there, dot * v_slope * u_weight, 0.0)
    for axis in tl.static_range(3):
        pulled = tl.where(across == axis, u_gradient, 0.0) + tl.where(down == axis, v_gradient, 0.0)
        tl.store(out + m * 3 + axis, tl.sum(pulled, 1)[:, None], mask=m < samples)


def forward(planes: Tensor, points: Tensor, concat: bool, clamp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, then the texels and weights of their taps."""
    index = points.new_empty((*points.shape[:2], 12), dtype=torch.int32)
    weights = points.new_empty(index.shape, dtype=torch.float32)
    samples = points.shape[0] * points.shape[1]
    if samples:
        locate_kernel[(triton.cdiv(samples, BLOCK),)](
            points, index, weights, samples, points.shape[1], planes.shape[-1], *points.stride(),
            CLAMP=clamp, BLOCK=BLOCK,
        )  # fmt: skip
    taken = taps_triton.gather(texels(planes), taps_of_a_sample(index, concat), taps_of_a_sample(weights, concat))
    return taken.view(sample_shape(planes, points, concat)), index, weights


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor]:
    """Gradients of planes and points."""
    planes, points, concat, clamp = arguments
    rows = texels(planes)
    index, weights = (taps_of_a_sample(taps, concat) for taps in residuals)
    assert gradients[0] is not None  # the only output
    above = gradients[0].reshape(index.shape[0], planes.shape[2])
    pulled = points.new_empty(points.shape)
    samples = points.shape[0] * points.shape[1]
    if samples:
        dots = taps_triton.dots(rows, index, above)
        pull_kernel[(triton.cdiv(samples, BLOCK),)](
            points, residuals[0], dots, pulled, samples, points.shape[1], planes.shape[-1], *points.stride(),
            CLAMP=clamp, BLOCK=BLOCK,
        )  # fmt: skip
    return as_planes(taps_triton.scatter(above, index, weights, len(rows)), planes), pulled


def compilations() -> list[Compilation]:
    """Both ways to combine the planes, and to treat their borders."""
    known = {"points": "*fp32", "index": "*i32", "weights": "*fp32", "dots": "*fp32", "out": "*fp32"}
    compiled = [*taps_triton.compilations(12, ("*bf16",)), *taps_triton.compilations(4, ("*fp32",))]
    for clamp in (False, True):
        for kernel in (locate_kernel, pull_kernel):
            types = {name: known.get(name, "i32") for name in kernel.arg_names}
            compiled.append(Compilation(kernel, types, {"CLAMP": clamp, "BLOCK": BLOCK}))
    return compiled
