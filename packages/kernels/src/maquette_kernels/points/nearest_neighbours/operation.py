"""The specification of ``nearest_neighbours``: shapes, cost, test inputs, laws, implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.points import drawn, ragged
from maquette_kernels.points.nearest_neighbours.laws import LAWS
from maquette_kernels.points.nearest_neighbours.reference import reference
from maquette_kernels.tolerance import Verdict, flash_attention_rule

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MAX_K_TRITON = 64


def validate(call: Call) -> str | None:
    """What is wrong with the shapes of a call, or None."""
    queries, points, k = call["queries"], call["points"], call.scalars["k"]
    wrong = ragged.wrong_points("queries", queries) or ragged.wrong_points("points", points)
    if wrong is not None:
        return wrong
    if queries.dtype != points.dtype:
        return f"queries and points must share a dtype, got {queries.dtype} and {points.dtype}"
    if k < 1:
        return f"k must be at least 1, got {k}"
    if points.shape[0] >= 2**31:
        return f"points has {points.shape[0]} rows; split it into clouds of fewer than 2^31"
    return _wrong_offsets(call)


def _wrong_offsets(call: Call) -> str | None:
    if call.has("query_offsets") != call.has("point_offsets"):
        return "query_offsets and point_offsets must be given both or not at all"
    if not call.has("query_offsets"):
        return None
    wrong = ragged.wrong_offsets("query_offsets", call["query_offsets"])
    wrong = wrong or ragged.wrong_offsets("point_offsets", call["point_offsets"])
    clouds = [ragged.clouds_in(call, name) for name in ("query_offsets", "point_offsets")]
    if wrong is None and clouds[0] != clouds[1]:
        wrong = f"query_offsets are of {clouds[0]} clouds, point_offsets of {clouds[1]}; give as many"
    return wrong


def fake(
    queries: Tensor, points: Tensor, k: int, query_offsets: Tensor | None, point_offsets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A row of k for each query."""
    return queries.new_empty(queries.shape[0], k), queries.new_empty(queries.shape[0], k, dtype=torch.int64)


def cost(call: Call) -> tuple[int, int]:
    """Eight flops a pair of a query and a point of its cloud, clouds taken to be equally large; each tensor once."""
    pairs = call["queries"].shape[0] * call["points"].shape[0] // max(ragged.clouds_in(call, "query_offsets"), 1)
    found = call["queries"].shape[0] * call.scalars["k"] * (call["queries"].dtype.itemsize + 8)
    return 8 * pairs, sum(operand.bytes for operand in call.given.values()) + found


def tolerance(result: Tensor, baselines: Sequence[Tensor], oracle: Tensor) -> Verdict:
    """Distances are infinite where the reference's are, and else meet the usual bound."""
    found = oracle.isfinite()
    if not torch.equal(result.isfinite(), found) or bool(result.isnan().any()):
        return Verdict(torch.inf, 0.0)
    return flash_attention_rule(result[found], [baseline[found] for baseline in baselines], oracle[found])


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Two clouds, four neighbours."""
    generator = torch.Generator().manual_seed(0)
    queries, points = torch.rand(37, 3, generator=generator), torch.rand(150, 3, generator=generator)
    offsets = torch.tensor([[0, 20, 37], [0, 70, 150]], device=device)
    return queries.to(device, dtype), points.to(device, dtype), 4, offsets[0], offsets[1]


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Both surfaces of a chamfer distance, one way: 16,384 points a shape, one shape (64 on a GPU)."""
    clouds, size = (1 if device.type == "cpu" else 64), 16384
    generator = torch.Generator().manual_seed(0)
    queries, points = torch.nn.functional.normalize(torch.randn(2, clouds * size, 3, generator=generator), dim=-1)
    offsets = torch.arange(clouds + 1, device=device) * size
    return queries.to(device, dtype), points.to(device, dtype), 1, offsets, offsets


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Points on lattices, so that squares of distances are exact in float32 and ties are ties: fine lattices, coarse
    ones that are mostly ties, duplicates; fewer points than k; empty clouds on either side; nan.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        clouds = draw(st.sampled_from([None, None, 1, 2, 3, 0]))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        side = draw(st.sampled_from([512, 40, 3, 1]))
        queries, query_offsets = drawn.clouds(draw, generator, clouds, [33, 1, 7, 31, 32, 0], side)
        points, point_offsets = drawn.clouds(draw, generator, clouds, [65, 1, 2, 31, 63, 64, 131, 0], side)
        if draw(st.booleans()) and points.shape[0] > 2:
            points[points.shape[0] // 2] = float("nan")
        k = draw(st.sampled_from([1, 3, 1, 2, 5]))
        return queries.to(dtype), points.to(dtype), k, query_offsets, point_offsets

    return draw_arguments()


def _on_triton(call: Call) -> str | None:
    if call.scalars["k"] > MAX_K_TRITON:
        return f"k is {call.scalars['k']}; it takes at most {MAX_K_TRITON}"
    return triton_support.refusal(call, rows=("queries", "points"))


NEAREST_NEIGHBOURS = Operation(
    name="nearest_neighbours",
    reference=reference,
    keeps=(1,),
    constants=("query_offsets", "point_offsets"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    tolerance=tolerance,
    dtypes=(torch.float32,),
    laws=LAWS,
    implementations=twins(__package__, _on_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """The k nearest points of each query, exactly, dense or ragged."""
    return NEAREST_NEIGHBOURS
