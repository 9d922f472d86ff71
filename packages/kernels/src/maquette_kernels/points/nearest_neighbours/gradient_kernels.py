"""The backward pass of ``nearest_neighbours`` in Triton: neighbours pull at their queries, queries at their neighbours.

What each neighbour is pulled by is written neighbour by neighbour and summed by point, in a fixed order.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.segment_sum import segment_sum
from maquette_kernels.triton_support import Compilation


@triton.jit
def coordinates(points, rows, stride, valid):
    """Coordinates of rows of points in float32; 0 where there is no such row."""
    at = points + rows.to(tl.int64) * stride
    return (
        tl.load(at, mask=valid, other=0).to(tl.float32),
        tl.load(at + 1, mask=valid, other=0).to(tl.float32),
        tl.load(at + 2, mask=valid, other=0).to(tl.float32),
    )


@triton.jit
def pull_kernel(
    queries, points, number, above, total, pulls, query_stride, point_stride, count, k, BLOCK: tl.constexpr
):  # fmt: skip
    """Gradients of BLOCK queries, whose neighbours pull at them, and how each query pulls at each neighbour."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = rows < count
    x, y, z = coordinates(queries, rows, query_stride, valid)
    to_x = tl.zeros([BLOCK], tl.float32)
    to_y = tl.zeros([BLOCK], tl.float32)
    to_z = tl.zeros([BLOCK], tl.float32)
    place = 0
    while place < k:
        entry = rows * k + place
        which = tl.load(number + entry, mask=valid, other=-1)
        twice = 2 * tl.load(above + entry, mask=which >= 0, other=0)
        u, v, w = coordinates(points, which, point_stride, which >= 0)
        part_x = tl.where(which >= 0, twice * (x - u), 0)
        part_y = tl.where(which >= 0, twice * (y - v), 0)
        part_z = tl.where(which >= 0, twice * (z - w), 0)
        to_x += part_x
        to_y += part_y
        to_z += part_z
        tl.store(pulls + entry * 3, -part_x, mask=valid)
        tl.store(pulls + entry * 3 + 1, -part_y, mask=valid)
        tl.store(pulls + entry * 3 + 2, -part_z, mask=valid)
        place += 1
    tl.store(total + rows * 3, to_x, mask=valid)
    tl.store(total + rows * 3 + 1, to_y, mask=valid)
    tl.store(total + rows * 3 + 2, to_z, mask=valid)


def backward(arguments: Any, residuals: Any, gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients of queries and points."""
    queries, points, k = arguments[:3]
    if gradients[0] is None:
        return None, None
    number, above = residuals[0].contiguous(), gradients[0].contiguous()
    if number.numel() == 0 or points.shape[0] == 0:
        return tuple(torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in (queries, points))
    to_queries = torch.empty(queries.shape, dtype=queries.dtype, device=queries.device)
    pulls = torch.empty((number.numel(), 3), dtype=torch.float32, device=queries.device)
    pull_kernel[(triton.cdiv(queries.shape[0], 128),)](
        queries, points, number, above, to_queries, pulls, queries.stride(0), points.stride(0), queries.shape[0], k,
        BLOCK=128,
    )  # fmt: skip
    return to_queries, segment_sum(pulls, number.flatten(), points.shape[0], dtype=points.dtype)


def compilation(kernel: Any, constants: dict[str, int], options: dict[str, Any]) -> Compilation:
    """A kernel of this operation at some constants."""
    floats = dict.fromkeys(("queries", "points", "squared", "above", "total", "pulls"), "*fp32")
    whole_numbers = ("number", "firsts", "clouds", "query_offsets", "point_offsets")
    types = floats | dict.fromkeys(whole_numbers, "*i64")
    return Compilation(kernel, {n: types.get(n, "i32") for n in kernel.arg_names}, constants, (), options)
