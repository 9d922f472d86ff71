"""The specification of ``marching_cubes``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call, on_cpu
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.surface import laws
from maquette_kernels.surface.marching_cubes.reference import reference

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_MOST_SAMPLES = 2**31 - 1


def validate(call: Call) -> str | None:
    """What is wrong with a call as such, or None."""
    grid, clearance = call["grid"], call.scalars["clearance"]
    if len(grid.shape) != 3 or grid.dtype not in {torch.float32, torch.float64}:
        return f"grid must be float32 or float64 [X, Y, Z], got {grid.dtype} {tuple(grid.shape)}"
    return None if 0 <= clearance < 0.5 else f"clearance must be in [0, 0.5), got {clearance}"


def fake(grid: Tensor, level: float, clearance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices and their edges; faces, whose number data decides too."""
    found, triangles = (torch.library.get_ctx().new_dynamic_size() for _ in range(2))
    faces = grid.new_empty(triangles, 3, dtype=torch.int32)
    return grid.new_empty(found, 3), faces, grid.new_empty(found, 2, dtype=torch.int64)


def cost(call: Call) -> tuple[int, int]:
    """Every sample is read once; what is written depends on the surface and is small beside it."""
    grid = call["grid"]
    return 2 * grid.numel, grid.bytes


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A ball in a small grid, its surface away from the samples."""
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (7, 8, 9)), indexing="ij")
    centre = (3.1, 3.3, 4.2)
    grid = torch.stack([axis - c for axis, c in zip(axes, centre, strict=True)]).norm(dim=0) - 2.37
    return grid.to(device, dtype), 0.0, 0.01


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A ball of 400 thousand triangles in 256 samples a side."""
    axis = (torch.arange(256, device=device, dtype=torch.float32) + 0.5) / 256 - 0.5
    squares = axis.square()
    grid = (squares[:, None, None] + squares[:, None] + squares).sqrt() - 0.4
    return grid.to(dtype), 0.0, 0.01


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Noise, in which every case occurs, and single samples; sizes 0, 1, 2, a block more or less, past a word."""
    from hypothesis import strategies as st

    shapes = [(0, 3, 4), (1, 4, 4), (2, 2, 2), (7, 8, 9), (8, 8, 8), (9, 3, 19), (9, 8, 9), (3, 2, 65), (2, 2, 130)]

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        kind = draw(st.sampled_from(["noise", "few inside", "one inside"]))
        shape = draw(st.sampled_from([(9, 8, 9), (2, 2, 2)] if kind == "one inside" else shapes))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        grid = torch.randn(shape, generator=generator)
        if kind == "few inside":  # most blocks are empty, as in real fields
            grid = torch.where(torch.rand(shape, generator=generator) < 0.02, -grid.abs(), grid.abs())
        if kind == "one inside":  # in the last cell of a block, whose crossed edges leave samples of the next
            grid = grid.abs()
            across = 512 + shape[1] * shape[2] + shape[2]
            grid.view(-1)[across if across < grid.numel() else -1] *= -1
        level = draw(st.sampled_from([0.0, 0.5, -0.75]))
        return (grid + level).to(dtype), level, draw(st.sampled_from([0.01, 0.0, 0.25]))

    return draw_arguments()


def _supports_cpu(call: Call) -> str | None:
    dtype = call["grid"].dtype
    return on_cpu(call) if dtype == torch.float32 else f"grid is {dtype}; it takes float32"


def _supports_triton(call: Call) -> str | None:
    grid = call["grid"]
    if grid.numel > _MOST_SAMPLES:
        return f"{grid.numel} samples; it takes up to {_MOST_SAMPLES}"
    return triton_support.refusal(call, rows=())


MARCHING_CUBES = Operation(
    name="marching_cubes",
    reference=reference,
    keeps=(2,),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    dtypes=(torch.float32,),
    laws=(laws.dense_is_closed, laws.dense_ties_are_outside),
    implementations=twins(__package__, _supports_triton, cpu=_supports_cpu, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Closed triangle surface of a dense grid, differentiable in the samples."""
    return MARCHING_CUBES
