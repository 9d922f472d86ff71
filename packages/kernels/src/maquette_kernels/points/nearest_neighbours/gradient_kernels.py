"""The backward pass of ``nearest_neighbours`` in Triton: neighbours pull at their queries, queries at their neighbours.

The gradient of the points is a sum over entries (a query and the place of a neighbour in its row) sorted by their
point, in a fixed order and with no atomics.
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

from maquette_kernels.triton_support import Compilation, interpreting


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
def query_gradient_kernel(
    queries, points, number, above, total, query_stride, point_stride, count, k, BLOCK: tl.constexpr
):
    """Gradients of BLOCK queries: their neighbours pull at them."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = rows < count
    x, y, z = coordinates(queries, rows, query_stride, valid)
    to_x = tl.zeros([BLOCK], tl.float32)
    to_y = tl.zeros([BLOCK], tl.float32)
    to_z = tl.zeros([BLOCK], tl.float32)
    place = 0
    while place < k:
        which = tl.load(number + rows * k + place, mask=valid, other=-1)
        twice = 2 * tl.load(above + rows * k + place, mask=which >= 0, other=0)
        u, v, w = coordinates(points, which, point_stride, which >= 0)
        to_x += tl.where(which >= 0, twice * (x - u), 0)
        to_y += tl.where(which >= 0, twice * (y - v), 0)
        to_z += tl.where(which >= 0, twice * (z - w), 0)
        place += 1
    tl.store(total + rows * 3, to_x, mask=valid)
    tl.store(total + rows * 3 + 1, to_y, mask=valid)
    tl.store(total + rows * 3 + 2, to_z, mask=valid)


@triton.jit
def point_gradient_kernel(
    queries,
    points,
    entries,
    starts,
    above,
    total,
    query_stride,
    point_stride,
    count,
    k,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
):
    """Gradients of BLOCK points; each sums the entries of its segment, LANES at a time, in order."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = rows < count
    position = tl.load(starts + rows, mask=valid, other=0)
    stop = tl.load(starts + rows + 1, mask=valid, other=0)
    x, y, z = coordinates(points, rows, point_stride, valid)
    lanes = tl.arange(0, LANES)[None, :]
    to_x = tl.zeros([BLOCK, LANES], tl.float32)
    to_y = tl.zeros([BLOCK, LANES], tl.float32)
    to_z = tl.zeros([BLOCK, LANES], tl.float32)
    while tl.max(stop - position, 0) > 0:
        pulled = position[:, None] + lanes < stop[:, None]
        entry = tl.load(entries + position[:, None] + lanes, mask=pulled, other=0)
        twice = 2 * tl.load(above + entry, mask=pulled, other=0)
        u, v, w = coordinates(queries, entry // k, query_stride, pulled)
        to_x += tl.where(pulled, twice * (x[:, None] - u), 0)
        to_y += tl.where(pulled, twice * (y[:, None] - v), 0)
        to_z += tl.where(pulled, twice * (z[:, None] - w), 0)
        position += LANES
    tl.store(total + rows * 3, tl.sum(to_x, 1), mask=valid)
    tl.store(total + rows * 3 + 1, tl.sum(to_y, 1), mask=valid)
    tl.store(total + rows * 3 + 2, tl.sum(to_z, 1), mask=valid)


def backward(arguments: Any, residuals: Any, gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients of queries and points."""
    queries, points, k = arguments[:3]
    if gradients[0] is None:
        return None, None
    number, above = residuals[0].contiguous(), gradients[0].contiguous()
    to_queries, to_points = (torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in (queries, points))
    if number.numel() == 0 or points.shape[0] == 0:
        return to_queries, to_points
    strides = (queries.stride(0), points.stride(0))
    block, lanes = (64, 16) if interpreting() else (16, 32)
    programs = (triton.cdiv(queries.shape[0], 128),)
    query_gradient_kernel[programs](
        queries, points, number, above, to_queries, *strides, queries.shape[0], k, BLOCK=128
    )
    ordered, entries = number.flatten().sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(points.shape[0] + 1, device=points.device))
    point_gradient_kernel[(triton.cdiv(points.shape[0], block),)](
        queries, points, entries, starts, above, to_points, *strides, points.shape[0], k, BLOCK=block, LANES=lanes
    )
    return to_queries, to_points


def compilation(kernel: Any, constants: dict[str, int], options: dict[str, Any]) -> Compilation:
    """A kernel of this operation at some constants."""
    floats = dict.fromkeys(("queries", "points", "squared", "above", "total"), "*fp32")
    whole_numbers = ("number", "firsts", "clouds", "query_offsets", "point_offsets", "entries", "starts")
    types = floats | dict.fromkeys(whole_numbers, "*i64")
    return Compilation(kernel, {n: types.get(n, "i32") for n in kernel.arg_names}, constants, (), options)
