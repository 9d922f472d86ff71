"""The specification of ``sample_triplane``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.sampling.sample_triplane import laws
from maquette_kernels.sampling.sample_triplane.layout import sample_shape
from maquette_kernels.sampling.sample_triplane.reference import reference, residuals, working_dtype

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MOST_TEXELS = 2**31 - 1


def validate(call: Call) -> str | None:
    """What is wrong with the shapes and dtypes of a call, or None."""
    planes, points = call["planes"], call["points"]
    if len(planes.shape) != 5 or planes.shape[1] != 3 or planes.shape[3] != planes.shape[4]:
        return f"planes must be [B, 3, C, R, R], got {list(planes.shape)}"
    if not planes.dtype.is_floating_point or points.dtype not in (torch.float32, torch.float64):
        return f"planes must be floating and points float32, got {planes.dtype} and {points.dtype}"
    if len(points.shape) != 3 or points.shape[0] != planes.shape[0] or points.shape[2] != 3:
        return f"points must be [{planes.shape[0]}, P, 3], got {list(points.shape)}"
    if planes.shape[3] == 0:
        return "planes have no texels"
    if planes.shape[0] * 3 * planes.shape[3] ** 2 > MOST_TEXELS:
        return f"planes have more than {MOST_TEXELS} texels; split the batch"
    return None


def fake(planes: Tensor, points: Tensor, concat: bool, clamp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, then 12 texels and 12 weights a point."""
    taps = (points.shape[0], points.shape[1], 12)
    weights = points.new_empty(taps, dtype=working_dtype(planes, points))
    return planes.new_empty(sample_shape(planes, points, concat)), points.new_empty(taps, dtype=torch.int32), weights


def cost(call: Call) -> tuple[int, int]:
    """Two flops a channel and tap; every tensor is read or written once, and 96 bytes a point are kept."""
    planes, points = call["planes"], call["points"]
    count, channels = points.shape[0] * points.shape[1], planes.shape[2]
    written = count * channels * (3 if call.scalars["concat"] else 1) * planes.dtype.itemsize
    return count * (24 * channels + 80), planes.bytes + points.bytes + written + 96 * count


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Planes of 8 x 8 texels, and points that lie well inside texels."""
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(2, 3, 16, 8, 8, generator=generator).to(device, dtype)
    texel = (
        torch.randint(-1, 8, (2, 30, 3), generator=generator) + 0.1 + 0.8 * torch.rand(2, 30, 3, generator=generator)
    )
    return planes, _points_at(texel, 8).to(device), False, False


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Planes of 256 x 256 texels at points in the whole cube: 2^17 points on a CPU, 2^20 on a GPU."""
    channels, samples = (32, 1 << 17) if device.type == "cpu" else (64, 1 << 20)
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(1, 3, channels, 256, 256, generator=generator)
    return planes.to(device, dtype), (2 * torch.rand(1, samples, 3, generator=generator) - 1).to(device), False, False


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Small planes; points well inside texels, exactly between them, outside, and not finite.

    Never nearly between texels: which cell such a point is in, and so its gradient, is up to rounding.
    """
    from hypothesis import strategies as st

    # From a seed, for hypothesis by itself prefers the first of each choice.
    return st.integers(0, 2**31).map(lambda seed: _draw(random.Random(seed), seed, dtype))


def _draw(choices: random.Random, seed: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """One call of those that :func:`inputs` tells of."""
    choose, generator = choices.choice, torch.Generator().manual_seed(seed)
    batch, side = choose([1, 2, 3, 1, 2, 0]), choose([1, 2, 4, 5, 8])
    shape = (batch, choose([1, 7, 17, 31, 33, 33, 0]), 3)
    texel = torch.randint(-3, side + 2, shape, generator=generator).float()
    if side == 5 or choose([True, False]):  # where the side is a power of two, points between texels are exact
        texel = texel + 0.1 + 0.8 * torch.rand(shape, generator=generator)
    points = _points_at(texel, side)
    points[:1, 1:2, 1] = choose([float("nan"), float("inf"), -3e38, 7.0])
    planes = torch.randn(batch, 3, choose([1, 3, 16, 31, 130]), side, side, generator=generator).to(dtype)
    return planes, points, choose([True, False]), choose([True, False])


def _points_at(texel: Tensor, side: int) -> Tensor:
    """Points of the cube at places counted in texels."""
    return (2 * texel + 1) / side - 1


def _supports_triton(call: Call) -> str | None:
    if call["points"].dtype == torch.float64:
        return "points is torch.float64; it takes float32"
    return triton_support.refusal(call, rows=())


SAMPLE_TRIPLANE = Operation(
    name="sample_triplane",
    reference=reference,
    residuals=residuals,
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    linear=("planes",),
    laws=(laws.elements_are_independent, laws.axes_exchange, laws.sum_adds_planes),
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Bilinear samples of three planes of features at points of a cube, differentiable in both."""
    return SAMPLE_TRIPLANE
