"""The specification of ``farthest_points``: shapes, cost, test inputs, laws, implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.points import drawn, ragged
from maquette_kernels.points.farthest_points.laws import LAWS
from maquette_kernels.points.farthest_points.reference import reference

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def validate(call: Call) -> str | None:
    """What is wrong with a call, or None."""
    wrong = ragged.wrong_points("points", call["points"])
    if wrong is None and call.has("offsets"):
        wrong = ragged.wrong_offsets("offsets", call["offsets"])
    if wrong is not None:
        return wrong
    if call["points"].shape[0] >= 2**31:
        return f"points has {call['points'].shape[0]} rows; split it into clouds of fewer than 2^31"
    for name in ("count", "start"):
        if call.scalars[name] < 0:
            return f"{name} must not be negative, got {call.scalars[name]}"
    return None


def fake(points: Tensor, count: int, offsets: Tensor | None, start: int) -> tuple[Tensor]:
    """A row of ``count`` numbers a cloud."""
    clouds = 1 if offsets is None else offsets.shape[0] - 1
    return (points.new_empty(clouds, count, dtype=torch.int64),)


def cost(call: Call) -> tuple[int, int]:
    """Nine flops for each choice and point of its cloud; points are read and numbers written once."""
    found = ragged.clouds_in(call, "offsets") * call.scalars["count"]
    return 9 * call["points"].shape[0] * call.scalars["count"], call["points"].bytes + 8 * found


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Six of each of two clouds."""
    points = torch.rand(90, 3, generator=torch.Generator().manual_seed(0))
    return points.to(device, dtype), 6, torch.tensor([0, 33, 90], device=device), 0


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """4,096 of 100,000 points of a surface, one cloud (64 on a GPU)."""
    clouds, size = (1 if device.type == "cpu" else 64), 100_000
    points = torch.randn(clouds * size, 3, generator=torch.Generator().manual_seed(0))
    points = torch.nn.functional.normalize(points, dim=-1).to(device, dtype)
    return points, 4096, torch.arange(clouds + 1, device=device) * size, 0


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Points on lattices, so that squares of distances are exact in float32 and ties are ties; duplicates; fewer
    points than asked for; empty clouds; any first point.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        number, side = draw(st.sampled_from([None, None, 1, 2, 3, 0])), draw(st.sampled_from([512, 40, 3, 1, 0]))
        points, offsets = drawn.clouds(draw, generator, number, [131, 1, 2, 31, 63, 64, 65, 257, 0], side)
        count = draw(st.sampled_from([9, 12, 1, 2, 5, 0]))
        return points.to(dtype), count, offsets, draw(st.sampled_from([0, 0, 1, 40]))

    return draw_arguments()


def _on_triton(call: Call) -> str | None:
    return triton_support.refusal(call, rows=("points",))


FARTHEST_POINTS = Operation(
    name="farthest_points",
    reference=reference,
    constants=("points", "offsets"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    dtypes=(torch.float32,),
    laws=LAWS,
    implementations=twins(__package__, _on_triton),
)


def build(config: NoSettings) -> Operation:
    """Points each the farthest from those chosen before, dense or ragged."""
    return FARTHEST_POINTS
