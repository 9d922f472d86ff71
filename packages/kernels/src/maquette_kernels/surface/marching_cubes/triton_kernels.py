"""Marching cubes in Triton: count by blocks of samples, sum up, emit vertices and active cells, then triangles.

The first pass reads every sample once and writes three numbers a block; the second leaves blocks at once that
nothing crosses. Between the vertices and the triangles stands one int32 a sample, written only where an edge
is crossed: the number of its first vertex, and which of its three edges are crossed in the low bits. A word of
three bits has ``word - (word >> 1) - (word >> 2)`` of them set.
"""

# Implementations take all arguments by position, as torch's operators do, and kernels as Triton's launcher does.
# ruff: noqa: PLR0917
from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.surface import scatter_kernels
from maquette_kernels.surface.device_cases import crossing, tables
from maquette_kernels.surface.scatter import pull_dense
from maquette_kernels.triton_support import Compilation, interpreting

_BLOCK = 512
_CELLS = 256 if interpreting() else 64
_SLOTS = 16
_MOST_VERTICES = 2**28


@triton.jit
def _examine(grid, level, x, y, z, nx, ny, nz, stride_x, stride_y, stride_z):
    """The case of the cell that a sample begins (0 where it begins none), and its crossed edges as three bits."""
    corner = tl.arange(0, 8)[:, None]
    i, j, k = x[None, :] + (corner & 1), y[None, :] + (corner >> 1 & 1), z[None, :] + (corner >> 2)
    there = (i < nx) & (j < ny) & (k < nz)
    place = i.to(tl.int64) * stride_x + j.to(tl.int64) * stride_y + k.to(tl.int64) * stride_z
    inside = (tl.load(grid + place, mask=there, other=float("inf")) < level).to(tl.int32)
    bits = tl.sum(inside << corner, axis=0)
    first = bits & 1
    more_x, more_y, more_z = x + 1 < nx, y + 1 < ny, z + 1 < nz
    flags = ((bits >> 1 & 1) ^ first) & more_x.to(tl.int32)
    flags |= (((bits >> 2 & 1) ^ first) & (more_y & (x < nx)).to(tl.int32)) << 1
    flags |= (((bits >> 4 & 1) ^ first) & (more_z & (x < nx)).to(tl.int32)) << 2
    return tl.where(more_x & more_y & more_z, bits, 0), flags


@triton.jit
def _locate(block, ny, nz, BLOCK: tl.constexpr):
    sample = block * BLOCK + tl.arange(0, BLOCK)
    row = sample // nz
    return sample, row // ny, row % ny, sample % nz


@triton.jit
def _count(grid, level, counts, totals, blocks, nx, ny, nz, stride_x, stride_y, stride_z, BLOCK: tl.constexpr):
    """Vertices, active cells and triangles of a block of samples, into ``totals`` [3, blocks]."""
    block = tl.program_id(0)
    _, x, y, z = _locate(block, ny, nz, BLOCK)
    case, flags = _examine(grid, level, x, y, z, nx, ny, nz, stride_x, stride_y, stride_z)
    active = (case > 0) & (case < 255)
    triangles = tl.load(counts + case, mask=active, other=0)
    tl.store(totals + block, tl.sum(flags - (flags >> 1) - (flags >> 2)))
    tl.store(totals + blocks + block, tl.sum(active.to(tl.int32)))
    tl.store(totals + 2 * blocks + block, tl.sum(triangles))


@triton.jit
def _emit_cells(case, sample, counts, cells, cell_cases, cell_faces, first_cell, first_face):
    """List the active cells of a block, and where the triangles of each begin."""
    active = (case > 0) & (case < 255)
    triangles = tl.load(counts + case, mask=active, other=0)
    number = first_cell + tl.cumsum(active.to(tl.int32)) - 1
    tl.store(cells + number, sample, mask=active)
    tl.store(cell_cases + number, case, mask=active)
    tl.store(cell_faces + number, first_face + tl.cumsum(triangles) - triangles, mask=active)


@triton.jit
def _emit_vertices(
    grid, level, low, high, vertices, edges, first, flags, sample, x, y, z, ny, nz, stride_x, stride_y, stride_z
):
    """Vertices on the three edges that leave each sample, and the samples at the edges' ends."""
    axis = tl.arange(0, 4)[:, None]
    crossed = (flags[None, :] >> axis & 1) > 0
    before = flags[None, :] & ((1 << axis) - 1)
    number = (first[None, :] + before - (before >> 1) - (before >> 2)).to(tl.int64)
    here = (x.to(tl.int64) * stride_x + y.to(tl.int64) * stride_y + z.to(tl.int64) * stride_z)[None, :]
    along = tl.where(axis == 0, stride_x, tl.where(axis == 1, stride_y, stride_z))
    a, b = tl.load(grid + here, mask=crossed, other=0.0), tl.load(grid + here + along, mask=crossed, other=1.0)
    t = crossing(a, b, level, low, high)
    tl.store(vertices + 3 * number, x[None, :] + tl.where(axis == 0, t, 0.0), mask=crossed)
    tl.store(vertices + 3 * number + 1, y[None, :] + tl.where(axis == 1, t, 0.0), mask=crossed)
    tl.store(vertices + 3 * number + 2, z[None, :] + tl.where(axis == 2, t, 0.0), mask=crossed)
    step = tl.where(axis == 0, ny * nz, tl.where(axis == 1, nz, 1))
    tl.store(edges + 2 * number, sample[None, :].to(tl.int64) + 0 * axis, mask=crossed)
    tl.store(edges + 2 * number + 1, sample[None, :].to(tl.int64) + step, mask=crossed)


@triton.jit
def _emit(
    grid, level, low, high, counts, starts, words, vertices, edges, cells, cell_cases, cell_faces,
    blocks, nx, ny, nz, stride_x, stride_y, stride_z, BLOCK: tl.constexpr,
):  # fmt: skip
    """Vertices and active cells of a block; ``starts`` int64 [3, blocks + 1] says where each block's begin."""
    block = tl.program_id(0)
    cell_starts = starts + blocks + 1 + block
    first_vertex, first_cell = tl.load(starts + block), tl.load(cell_starts)
    # Either may be without the other: the edges of a block's last cells leave samples of later blocks.
    if (tl.load(starts + block + 1) > first_vertex) | (tl.load(cell_starts + 1) > first_cell):
        first_face = tl.load(cell_starts + blocks + 1)
        sample, x, y, z = _locate(block, ny, nz, BLOCK)
        case, flags = _examine(grid, level, x, y, z, nx, ny, nz, stride_x, stride_y, stride_z)
        found = flags - (flags >> 1) - (flags >> 2)
        first = first_vertex.to(tl.int32) + tl.cumsum(found) - found
        tl.store(words + sample, first << 3 | flags, mask=flags > 0)
        _emit_vertices(
            grid, level, low, high, vertices, edges, first, flags, sample, x, y, z, ny, nz, stride_x, stride_y, stride_z
        )
        _emit_cells(case, sample, counts, cells, cell_cases, cell_faces, first_cell, first_face)


@triton.jit
def _emit_faces(
    words, cells, cell_cases, cell_faces, slots, corners, axes, faces, count, ny, nz,
    CELLS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Triangles of active cells, a lane for each corner of each."""
    cell = (tl.program_id(0) * CELLS + tl.arange(0, CELLS))[:, None]
    slot = tl.arange(0, SLOTS)[None, :]
    sample = tl.load(cells + cell, mask=cell < count, other=0)
    case = tl.load(cell_cases + cell, mask=cell < count, other=0)
    edge = tl.load(slots + case * SLOTS + slot)
    there = (cell < count) & (edge >= 0)
    corner = tl.load(corners + edge, mask=there, other=0)
    axis = tl.load(axes + edge, mask=there, other=0)
    sample = sample + ((corner & 1) * ny + (corner >> 1 & 1)) * nz + (corner >> 2)
    word = tl.load(words + sample, mask=there, other=0)
    before = word & ((1 << axis) - 1)
    number = (word >> 3) + before - (before >> 1) - (before >> 2)
    first = tl.load(cell_faces + cell, mask=cell < count, other=0)
    tl.store(faces + 3 * first + slot, number, mask=there)


def forward(grid: Tensor, level: float, clearance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and edges."""
    grid = grid.detach()
    empty = partial(torch.empty, device=grid.device)
    if min(grid.shape) < 2:  # no cells
        return empty(0, 3), empty(0, 3, dtype=torch.int32), empty(0, 2, dtype=torch.int64)
    slots, counts, corners, axes = tables(grid.device)
    blocks, shape = triton.cdiv(grid.numel(), _BLOCK), (*grid.shape, *grid.stride())
    totals = empty(3, blocks, dtype=torch.int32)
    _count[(blocks,)](grid, level, counts, totals, blocks, *shape, BLOCK=_BLOCK)
    starts = torch.nn.functional.pad(totals.cumsum(1, dtype=torch.int64), (1, 0))
    found, active, triangles = starts[:, -1].tolist()
    if found > _MOST_VERTICES:
        raise MaquetteError(f"kernel 'marching_cubes': {found} vertices; cut the grid into parts of up to 2**28")
    vertices, edges = empty(found, 3), empty(found, 2, dtype=torch.int64)
    faces = empty(triangles, 3, dtype=torch.int32)
    if found == 0:
        return vertices, faces, edges
    words, cells, kinds = (empty(n, dtype=torch.int32) for n in (grid.numel(), active, active))
    begin = empty(active, dtype=torch.int64)
    place = (level, clearance, 1 - clearance)
    _emit[(blocks,)](
        grid, *place, counts, starts, words, vertices, edges, cells, kinds, begin, blocks, *shape, BLOCK=_BLOCK
    )
    _emit_faces[(triton.cdiv(active, _CELLS),)](
        words, cells, kinds, begin, slots, corners, axes, faces, active, *grid.shape[1:], CELLS=_CELLS, SLOTS=_SLOTS
    )
    return vertices, faces, edges


backward = partial(pull_dense, sums=scatter_kernels.sums)


def compilations() -> list[Compilation]:
    """Each kernel as it is launched for a large contiguous grid."""
    whole = dict.fromkeys(("blocks", "nx", "ny", "nz", "stride_x", "stride_y", "count"), "i32") | {"stride_z": "i64"}
    numbers = dict.fromkeys(("counts", "totals", "words", "cells", "cell_cases", "slots", "corners", "axes"), "*i32")
    types = {"grid": "*fp32", "vertices": "*fp32", "faces": "*i32", "edges": "*i64", "starts": "*i64"} | whole | numbers
    types |= {"cell_faces": "*i64", "level": "fp32", "low": "fp32", "high": "fp32"}
    sizes = ("nx", "ny", "nz", "stride_x", "stride_y")
    return [
        Compilation(_count, types, {"BLOCK": _BLOCK}, sizes),
        Compilation(_emit, types, {"BLOCK": _BLOCK}, sizes),
        Compilation(_emit_faces, types, {"CELLS": _CELLS, "SLOTS": _SLOTS}, sizes),
        *scatter_kernels.compilations(),
    ]
