"""The specification of ``sample_sparse_trilinear``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.sampling.sample_sparse_trilinear import laws
from maquette_kernels.sampling.sample_sparse_trilinear.reference import reference, residuals, working_dtype

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

INTEGERS = (torch.int32, torch.int64)


def validate(call: Call) -> str | None:
    """What is wrong with the shapes and dtypes of a call, or None."""
    features, coords, points = call["features"], call["coords"], call["points"]
    if len(features.shape) != 2 or not features.dtype.is_floating_point:
        return f"features must be floating [N, C], got {features.dtype} {list(features.shape)}"
    if tuple(coords.shape) != (features.shape[0], 4) or coords.dtype not in INTEGERS:
        return (
            f"coords must be int32 [{features.shape[0]}, 4] (batch, x, y, z), got {coords.dtype} {list(coords.shape)}"
        )
    if len(points.shape) != 2 or points.shape[1] != 3 or points.dtype not in (torch.float32, torch.float64):
        return f"points must be float32 [P, 3] in voxels, got {points.dtype} {list(points.shape)}"
    if call.has("batch"):
        batch = call["batch"]
        if tuple(batch.shape) != (points.shape[0],) or batch.dtype not in INTEGERS:
            return f"batch must be int32 [{points.shape[0]}], got {batch.dtype} {list(batch.shape)}"
    return None


def fake(
    features: Tensor, coords: Tensor, points: Tensor, batch: Tensor | None, renormalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, then 8 voxels and 8 weights a point."""
    count = points.shape[0]
    index = points.new_empty((count, 8), dtype=torch.int32)
    weights = points.new_empty((count, 8), dtype=working_dtype(features, points))
    return features.new_empty((count, features.shape[1])), index, weights


def cost(call: Call) -> tuple[int, int]:
    """Two flops a channel and corner; every tensor is read or written once, and 64 bytes a point are kept."""
    features, points = call["features"], call["points"]
    samples = points.shape[0] * features.shape[1]
    read = sum(operand.bytes for operand in call.given.values())
    return 16 * samples + 60 * points.shape[0], read + samples * features.dtype.itemsize + 64 * points.shape[0]


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A quarter of a block of 6^3 voxels in each of two elements, and points about it, none near a face."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(torch.arange(2), *[torch.arange(-3, 3)] * 3).int()
    coords = grid[torch.randperm(len(grid), generator=generator)[:108]]
    points = torch.randint(-4, 3, (50, 3), generator=generator) + 0.1 + 0.8 * torch.rand(50, 3, generator=generator)
    batch = torch.randint(0, 2, (50,), generator=generator, dtype=torch.int32)
    features = torch.randn(len(coords), 16, generator=generator).to(device, dtype)
    return features, coords.to(device), points.to(device), batch.to(device), False


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Points near a sphere that a shell of voxels covers: about 50 thousand on a CPU, a million on a GPU."""
    side, channels, samples = (128, 32, 1 << 17) if device.type == "cpu" else (512, 64, 1 << 20)
    coords = shell(side)
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(samples, 3, generator=generator), dim=1)
    points = direction * (side / 2 - 2) + side / 2
    features = torch.randn(len(coords), channels, generator=generator)
    return features.to(device, dtype), coords.to(device), points.to(device), None, False


def shell(side: int) -> Tensor:
    """Voxels within one unit of a sphere that fills a cube, int32 [N, 4]."""
    axis = torch.arange(side, dtype=torch.float32) - side / 2
    found = []
    for x in range(side):
        radius = (axis[x] ** 2 + axis[:, None] ** 2 + axis[None, :] ** 2).sqrt()
        near = ((radius - (side / 2 - 2)).abs() < 1).nonzero()
        found.append(torch.nn.functional.pad(near, (1, 0), value=x))
    return torch.nn.functional.pad(torch.cat(found), (1, 0)).int()


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Few voxels in small cubes about the origin and far from it, in up to three elements; points in and about
    them, on faces, far out, and not finite.
    """
    from hypothesis import strategies as st

    # From a seed, for hypothesis by itself prefers the first of each choice.
    return st.integers(0, 2**31).map(lambda seed: _draw(random.Random(seed), seed, dtype))


def _draw(choices: random.Random, seed: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """One call of those that :func:`inputs` tells of."""
    choose, generator = choices.choice, torch.Generator().manual_seed(seed)
    side, elements = choose([1, 2, 4, 6]), choose([1, 3])
    count, samples = choose([65, 33, 31, 33, 7, 65, 1, 0]), choose([65, 33, 31, 33, 7, 65, 1, 0])
    corner = choose([-3, 0, 1000, -32768, 32768 - side])
    grid = torch.cartesian_prod(torch.arange(elements), *[torch.arange(corner, corner + side)] * 3).int()
    coords = grid[torch.randperm(len(grid), generator=generator)[:count]]
    points = corner - 1 + (side + 1) * torch.rand(samples, 3, generator=generator)
    renormalise = choose([True, False])
    if choose([True, False]):  # whole sixteenths: weights are exact, and some points lie on faces
        points = (points * 16).round() / 16
        points += renormalise / 32  # not where samples jump there, which would make the tolerance blind
    points[1:2, 1] = choose([float("nan"), float("inf"), -4e9, 32767.5, 0.0])
    batch = torch.randint(-(elements > 1), elements + 1, (samples,), generator=generator, dtype=torch.int32)
    features = torch.randn(len(coords), choose([130, 1, 3, 130, 16, 31]), generator=generator).to(dtype)
    return features, coords, points, batch if elements > 1 else None, renormalise


def _supports_triton(call: Call) -> str | None:
    if call["points"].dtype == torch.float64:
        return "points is torch.float64; it takes float32"
    return triton_support.refusal(call, rows=("features",))


SAMPLE_SPARSE_TRILINEAR = Operation(
    name="sample_sparse_trilinear",
    reference=reference,
    residuals=residuals,
    constants=("coords", "batch"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    linear=("features",),
    laws=(laws.permuting, laws.translating, laws.concatenating),
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Trilinear interpolation of the features of sparse voxels at points, differentiable in both."""
    return SAMPLE_SPARSE_TRILINEAR
