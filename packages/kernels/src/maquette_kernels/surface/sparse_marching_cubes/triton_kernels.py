"""Sparse marching cubes in Triton: cells mark the edges that their triangles need, then both are emitted.

Sorting and the search for neighbours are torch's. Marks are stores of one and the same value, so their order
does not matter.
"""

# Implementations take all arguments by position, as torch's operators do, and kernels as Triton's launcher does.
# ruff: noqa: PLR0917
from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.surface import scatter_kernels
from maquette_kernels.surface.device_cases import crossing, tables
from maquette_kernels.surface.scatter import pull_sparse
from maquette_kernels.surface.sparse_marching_cubes.keys import STEPS, sorted_keys
from maquette_kernels.triton_support import Compilation, interpreting

_CELLS = 256 if interpreting() else 64
_VERTICES = 1024 if interpreting() else 256
_SLOTS = 16


@triton.jit
def _mark(
    values, order, level, corners, slots, edge_corners, axes, counts, cases, triangles, marks, count,
    CELLS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """The case of each cell, 0 where a sample is missing; its triangles; and a mark on each edge they need."""
    cell = (tl.program_id(0) * CELLS + tl.arange(0, CELLS)).to(tl.int64)
    corner = tl.arange(0, 8)[None, :]
    number = tl.load(corners + 8 * cell[:, None] + corner, mask=(cell < count)[:, None], other=-1)
    present = number >= 0
    sample = tl.load(order + number, mask=present, other=0)
    inside = tl.load(values + sample, mask=present, other=float("inf")) < level
    whole = tl.sum(present.to(tl.int32), axis=1) == 8
    case = tl.where(whole, tl.sum(inside.to(tl.int32) << corner, axis=1), 0)
    tl.store(cases + cell, case, mask=cell < count)
    tl.store(triangles + cell, tl.load(counts + case), mask=cell < count)
    edge = tl.load(slots + case[:, None] * SLOTS + tl.arange(0, SLOTS)[None, :])
    needed = edge >= 0
    end = tl.load(edge_corners + edge, mask=needed, other=0)
    first = tl.load(corners + 8 * cell[:, None] + end, mask=needed, other=0).to(tl.int64)
    tl.store(marks + 3 * first + tl.load(axes + edge, mask=needed, other=0), 1, mask=needed)


@triton.jit
def _emit_vertices(values, coords, order, corners, keys, level, low, high, vertices, edges, count, BLOCK: tl.constexpr):
    """Vertices of marked edges, ``keys`` being three times the sample's rank plus the axis."""
    number = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    there = number < count
    key = tl.load(keys + number, mask=there, other=0)
    rank, axis = key // 3, key % 3
    other_rank = tl.load(corners + 8 * rank + (1 << axis), mask=there, other=0)
    first, second = tl.load(order + rank, mask=there, other=0), tl.load(order + other_rank, mask=there, other=0)
    a, b = tl.load(values + first, mask=there, other=0.0), tl.load(values + second, mask=there, other=1.0)
    t = crossing(a, b, level, low, high)
    for k in tl.static_range(3):
        place = tl.load(coords + 4 * first + k + 1, mask=there, other=0).to(tl.float32)
        tl.store(vertices + 3 * number + k, place + tl.where(axis == k, t, 0.0), mask=there)
    tl.store(edges + 2 * number, first, mask=there)
    tl.store(edges + 2 * number + 1, second, mask=there)


@triton.jit
def _emit_faces(
    active, starts, cases, corners, numbers, slots, edge_corners, axes, faces, count,
    CELLS: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Triangles of active cells, a lane for each corner of each."""
    number = (tl.program_id(0) * CELLS + tl.arange(0, CELLS))[:, None]
    slot = tl.arange(0, SLOTS)[None, :]
    cell = tl.load(active + number, mask=number < count, other=0)
    case = tl.load(cases + cell, mask=number < count, other=0)
    edge = tl.load(slots + case * SLOTS + slot)
    there = (number < count) & (edge >= 0)
    end = tl.load(edge_corners + edge, mask=there, other=0)
    sample = tl.load(corners + 8 * cell + end, mask=there, other=0).to(tl.int64)
    vertex = tl.load(numbers + 3 * sample + tl.load(axes + edge, mask=there, other=0), mask=there, other=1) - 1
    first = tl.load(starts + cell, mask=number < count, other=0)
    tl.store(faces + 3 * first + slot, vertex.to(tl.int32), mask=there)


def _find_corners(keys: Tensor) -> Tensor:
    """The eight samples of the cell that each sample begins, int32 [N, 8], -1 where there is none."""
    wanted = keys[:, None] + torch.tensor(STEPS, device=keys.device)
    found = torch.searchsorted(keys, wanted.flatten()).clamp_(max=len(keys) - 1).view_as(wanted)
    return torch.where(keys[found] == wanted, found, -1).int()


def forward(values: Tensor, coords: Tensor, level: float, clearance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and edges."""
    values, coords = values.detach().contiguous(), coords.contiguous()
    empty = partial(torch.empty, device=values.device)
    if len(values) == 0:
        return empty(0, 3), empty(0, 3, dtype=torch.int32), empty(0, 2, dtype=torch.int64)
    slots, counts, edge_corners, axes = tables(values.device)
    keys, order = sorted_keys(coords)
    corners, size = _find_corners(keys), len(values)
    cases, triangles = (empty(size, dtype=torch.int32) for _ in range(2))
    marks = torch.zeros(3 * size, dtype=torch.int8, device=values.device)
    _mark[(triton.cdiv(size, _CELLS),)](
        values, order, level, corners, slots, edge_corners, axes, counts, cases, triangles, marks, size,
        CELLS=_CELLS, SLOTS=_SLOTS,
    )  # fmt: skip
    marked, active, ends = marks.nonzero().squeeze(1), triangles.nonzero().squeeze(1), triangles.cumsum(0)
    vertices, edges = empty(len(marked), 3), empty(len(marked), 2, dtype=torch.int64)
    faces = empty(int(ends[-1]), 3, dtype=torch.int32)
    if len(marked):
        _emit_vertices[(triton.cdiv(len(marked), _VERTICES),)](
            values, coords, order, corners, marked, level, clearance, 1 - clearance, vertices, edges, len(marked),
            BLOCK=_VERTICES,
        )  # fmt: skip
        _emit_faces[(triton.cdiv(len(active), _CELLS),)](
            active, ends - triangles, cases, corners, marks.cumsum(0), slots, edge_corners, axes, faces, len(active),
            CELLS=_CELLS, SLOTS=_SLOTS,
        )  # fmt: skip
    return vertices, faces, edges


backward = partial(pull_sparse, sums=scatter_kernels.sums)


def compilations() -> list[Compilation]:
    """Each kernel as it is launched."""
    wide = dict.fromkeys(("order", "keys", "edges", "active", "starts", "numbers"), "*i64")
    narrow = dict.fromkeys(
        ("coords", "corners", "slots", "counts", "edge_corners", "axes", "cases", "triangles", "faces"), "*i32"
    )
    floats = {"values": "*fp32", "vertices": "*fp32", "level": "fp32", "low": "fp32", "high": "fp32"}
    types = {**wide, **narrow, **floats, "marks": "*i8", "count": "i32"}
    lanes = {"CELLS": _CELLS, "SLOTS": _SLOTS}
    return [
        Compilation(_mark, types, lanes),
        Compilation(_emit_vertices, types, {"BLOCK": _VERTICES}),
        Compilation(_emit_faces, types, lanes),
        *scatter_kernels.compilations(),
    ]
