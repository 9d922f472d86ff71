"""``nearest_neighbours`` in Triton: all pairs in tiles, the nearest kept on the way, no matrix of distances.

A program takes BLOCK queries of one cloud and walks through the cloud's points, TILE at a time. For k = 1 each lane
keeps the nearest it has seen, and lanes are compared at the end. For more, a distance and a number make one whole
number that orders by both (squared distances are not negative, so their bits order as they do); what is less than
the worst of the best so far replaces it, until a tile has no more such.

Products and sums are not fused, so distances, and with them the choice among near-ties, have the reference's bits.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.points.nearest_neighbours.gradient_kernels import (
    backward,
    compilation,
    coordinates,
    pull_kernel,
)
from maquette_kernels.points.ragged import whole
from maquette_kernels.segment_sum import compilations as sum_compilations
from maquette_kernels.triton_support import Compilation, interpreting

__all__ = ["backward", "compilations", "forward"]

_NONE = tl.constexpr(0x7FFFFFFF)
"""A number that no point has: there are fewer."""

_WORST = tl.constexpr(0x7FFFFFFFFFFFFFFF)
"""Behind every distance and number."""

_INFINITE = tl.constexpr(0x7F800000)
"""Bits of an infinite float32."""

_EXACT = {"enable_fp_fusion": False}


@triton.jit
def _span(first, cloud, query_offsets, point_offsets):
    """Where a program's queries stop, and the points of its cloud; none for a program without queries."""
    stop = tl.load(query_offsets + cloud + 1)
    begin = tl.load(point_offsets + cloud)
    end = tl.load(point_offsets + cloud + 1)
    return stop, begin, tl.where(first < stop, end, begin)


@triton.jit
def _squared(x, y, z, points, columns, stride, valid):
    """Squared distances [BLOCK, TILE]; infinite where there is no point."""
    u, v, w = coordinates(points, columns, stride, valid)
    u = x[:, None] - u[None, :]
    v = y[:, None] - v[None, :]
    w = z[:, None] - w[None, :]
    return tl.where(valid[None, :], u * u + v * v + w * w, float("inf"))


@triton.jit
def nearest_kernel(
    queries,
    points,
    squared,
    number,
    firsts,
    clouds,
    query_offsets,
    point_offsets,
    query_stride,
    point_stride,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """The nearest point of each query."""
    first = tl.load(firsts + tl.program_id(0))
    stop, column, end = _span(first, tl.load(clouds + tl.program_id(0)), query_offsets, point_offsets)
    rows = first + tl.arange(0, BLOCK)
    x, y, z = coordinates(queries, rows, query_stride, rows < stop)
    best = tl.full([BLOCK, TILE], float("inf"), tl.float32)
    which = tl.full([BLOCK, TILE], _NONE, tl.int32)
    while column < end:
        columns = column + tl.arange(0, TILE)
        away = _squared(x, y, z, points, columns, point_stride, columns < end)
        nearer = away < best
        best = tl.where(nearer, away, best)
        which = tl.where(nearer, columns[None, :].to(tl.int32), which)
        column += TILE
    nearest = tl.min(best, 1)
    which = tl.min(tl.where(best == nearest[:, None], which, _NONE), 1)
    tl.store(squared + rows, nearest, mask=rows < stop)
    tl.store(number + rows, tl.where(which == _NONE, -1, which).to(tl.int64), mask=rows < stop)


@triton.jit
def _merge(best, keys):
    """The smallest of the best so far [BLOCK, KEPT] and of more keys [BLOCK, TILE]; keys are all different."""
    worst = tl.max(best, 1)
    keys = tl.where(keys < worst[:, None], keys, _WORST)
    least = tl.min(keys, 1)
    while tl.min(least, 0) != _WORST:
        replaced = (best == worst[:, None]) & (least < worst)[:, None]
        best = tl.where(replaced, least[:, None], best)
        worst = tl.max(best, 1)
        keys = tl.where((keys != least[:, None]) & (keys < worst[:, None]), keys, _WORST)
        least = tl.min(keys, 1)
    return best


@triton.jit
def several_kernel(
    queries,
    points,
    squared,
    number,
    firsts,
    clouds,
    query_offsets,
    point_offsets,
    query_stride,
    point_stride,
    K: tl.constexpr,
    KEPT: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """The K nearest points of each query; KEPT is the next power of two."""
    first = tl.load(firsts + tl.program_id(0))
    stop, column, end = _span(first, tl.load(clouds + tl.program_id(0)), query_offsets, point_offsets)
    rows = first + tl.arange(0, BLOCK).to(tl.int64)
    x, y, z = coordinates(queries, rows, query_stride, rows < stop)
    # At first none is found, which the infinite bits say; the rest only tells the places apart.
    infinite = tl.full([BLOCK, KEPT], _INFINITE, tl.int64) << 32
    best = infinite + tl.arange(0, KEPT)[None, :]
    while column < end:
        columns = column + tl.arange(0, TILE).to(tl.int64)
        away = _squared(x, y, z, points, columns, point_stride, columns < end)
        keys = (away.to(tl.int32, bitcast=True).to(tl.int64) << 32) + columns[None, :]
        best = _merge(best, tl.where(away < float("inf"), keys, _WORST))
        column += TILE
    for place in range(K):
        least = tl.min(best, 1)
        best = tl.where(best == least[:, None], _WORST, best)
        bits = (least >> 32).to(tl.int32)
        found = tl.where(bits == _INFINITE, -1, least & 0xFFFFFFFF)
        tl.store(squared + rows * K + place, bits.to(tl.float32, bitcast=True), mask=rows < stop)
        tl.store(number + rows * K + place, found, mask=rows < stop)


def _programs(offsets: Tensor, count: int, block: int) -> tuple[Tensor, Tensor]:
    """First query and cloud of each program, none of which spans clouds.

    Their number follows from sizes alone, so that nothing waits for the device; what is too many begins behind the
    last query.
    """
    blocks = (offsets.diff() + block - 1) // block
    ends = blocks.cumsum(0)
    program = torch.arange(count // block + len(blocks), device=offsets.device)
    cloud = torch.searchsorted(ends, program, right=True)
    inside = cloud.clamp(max=len(blocks) - 1)
    first = offsets[inside] + (program - (ends - blocks)[inside]) * block
    return torch.where(cloud == inside, first, torch.iinfo(torch.int64).max // 2), inside


def _tiles(k: int) -> tuple[int, int]:
    """Queries and points of a tile; the interpreter pays by the operation, but is to see several tiles."""
    if interpreting():
        return 32, 64
    return (64, 64) if k == 1 else (32, 64)


def forward(
    queries: Tensor, points: Tensor, k: int, query_offsets: Tensor | None, point_offsets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Squared distances and numbers of the nearest points."""
    squared = queries.new_full((queries.shape[0], k), torch.inf)
    number = torch.full(squared.shape, -1, device=queries.device)
    offsets, point_offsets = whole(query_offsets, queries), whole(point_offsets, points)
    if squared.numel() == 0 or points.shape[0] == 0 or offsets.shape[0] < 2:
        return squared, number
    block, tile = _tiles(k)
    firsts, clouds = _programs(offsets, queries.shape[0], block)
    operands = (queries, points, squared, number, firsts, clouds, offsets, point_offsets)
    strides = (queries.stride(0), points.stride(0))
    if k == 1:
        nearest_kernel[(len(firsts),)](*operands, *strides, BLOCK=block, TILE=tile, **_EXACT)
    else:
        kept = triton.next_power_of_2(k)
        several_kernel[(len(firsts),)](*operands, *strides, K=k, KEPT=kept, BLOCK=block, TILE=tile, **_EXACT)
    return squared, number


def compilations() -> list[Compilation]:
    """Every kernel in float32; one neighbour and eight."""
    return [
        compilation(nearest_kernel, {"BLOCK": 64, "TILE": 64}, _EXACT),
        compilation(several_kernel, {"K": 8, "KEPT": 8, "BLOCK": 32, "TILE": 64}, _EXACT),
        compilation(pull_kernel, {"BLOCK": 128}, {}),
        *sum_compilations(3),
    ]
