"""``dual_grid_encode`` in Triton: count, expand, cut, sort by voxel, add up, solve.

All arithmetic is in float64, for whether a triangle touches a voxel or crosses an edge must not depend on rounding
beyond what the shift of the mesh absorbs. Work is expanded twice, from triangles to rows of cells and from rows to
cells, by counts and their prefix sums; what falls into one voxel is added in the order of the triangles.
"""

# Steps take each of their arrays by itself.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.dual_grid.dual_grid_encode.triton_areas import areas_kernel, rows_kernel
from maquette_kernels.dual_grid.dual_grid_encode.triton_crossings import (
    borders_kernel,
    crossings_kernel,
    minima_kernel,
    planes_kernel,
)
from maquette_kernels.dual_grid.dual_grid_encode.weights import NOT_FINITE, SHIFT
from maquette_kernels.dual_grid.expand import expand
from maquette_kernels.segment_sum import compilations as sum_compilations
from maquette_kernels.segment_sum import segment_sum
from maquette_kernels.triton_support import Compilation, interpreting

ITEMS = 128
POLYGONS = 16
ROWS = 32


def forward(vertices: Tensor, faces: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Voxels, points, edges and signs."""
    if not bool(torch.isfinite(vertices).all()):
        raise MaquetteError(NOT_FINITE)
    shift = torch.tensor(SHIFT, dtype=torch.float64, device=vertices.device) / resolution
    corners = (((vertices.double() + shift)[faces.long()] + 0.5) * resolution).contiguous()
    normals = _normals(corners)
    owner, pairs = _touched(corners, resolution)
    keys = torch.unique(pairs)
    quadrics = _areas(corners, normals, owner, pairs, keys, resolution)
    edges, surplus, planes = _crossings(corners, normals, keys, resolution)
    quadrics = quadrics + planes + _borders(corners, faces.long(), keys, resolution)
    points = vertices.new_empty(len(keys), 3)
    if len(keys):
        minima_kernel[(triton.cdiv(len(keys), ITEMS),)](quadrics, points, len(keys), BLOCK=ITEMS)
    voxels = torch.stack([keys // resolution**2, keys // resolution % resolution, keys % resolution], 1).int()
    return voxels, points, edges, edges & (surplus >= 0)


def _normals(corners: Tensor) -> Tensor:
    """Unit normals float64 [F, 4], the last 0; of a triangle without area all 0. Nothing is fused here."""
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normals = u.roll(-1, 1) * v.roll(-2, 1) - u.roll(-2, 1) * v.roll(-1, 1)
    squared = normals[:, 0] * normals[:, 0] + normals[:, 1] * normals[:, 1] + normals[:, 2] * normals[:, 2]
    length = squared.sqrt()[:, None]
    normals = torch.where(length > 0, normals / torch.where(length > 0, length, 1.0), 0.0)
    return torch.nn.functional.pad(normals, (0, 1)).contiguous()


def _box(corners: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """First and last cell int64 [K, 3] that points [K, P, 3] may touch along each axis, within the grid."""
    low, high = corners.amin(1).ceil() - 1, corners.amax(1).floor()
    return low.clamp(0, resolution).long().contiguous(), high.clamp(-1, resolution - 1).long().contiguous()


def _touched(corners: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Pairs of a triangle and a cell that it touches, in the order of triangles: int64 [P] numbers of both."""
    first, last = _box(corners, resolution)
    wide = (last - first + 1).clamp(min=0)
    owner, local = expand(torch.where(wide[:, 2] > 0, wide[:, 0] * wide[:, 1], 0))
    begin, count = torch.empty_like(owner), torch.empty_like(owner)
    rows = len(owner)
    if rows:
        tile = ITEMS if interpreting() else ROWS
        rows_kernel[(triton.cdiv(rows, tile),)](
            corners, owner, local, first, last, begin, count, rows, resolution, BLOCK=tile
        )
    row, inner = expand(count)
    return owner[row], begin[row] + inner


def _group(keys: Tensor, wanted: Tensor) -> Tensor:
    """Places of wanted numbers among sorted ones; their count where a number is none of them."""
    if not len(keys):
        return torch.zeros_like(wanted)
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[place] == wanted, place, len(keys))


def _areas(corners: Tensor, normals: Tensor, owner: Tensor, pairs: Tensor, keys: Tensor, resolution: int) -> Tensor:
    """Quadrics float64 [n, 13] of the parts of triangles in each voxel."""
    rows = corners.new_empty(len(pairs), 13)
    if len(pairs):
        tile = 2 * POLYGONS if interpreting() else POLYGONS
        areas_kernel[(triton.cdiv(len(pairs), tile),)](
            corners, normals, owner, pairs, rows, len(pairs), resolution, BLOCK=tile
        )
    return segment_sum(rows, _group(keys, pairs), len(keys))


def _crossings(corners: Tensor, normals: Tensor, keys: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Crossed edges bool [n, 3], crossings along less against int64 [n, 3], and quadrics of their planes [n, 13]."""
    count = len(corners)
    low, high = corners.amin(1).ceil().clamp(0, resolution + 1).long(), corners.amax(1).floor().clamp(-1, resolution)
    after = torch.tensor([[1, 2], [2, 0], [0, 1]], device=corners.device)
    first, last = (box.long()[:, after].transpose(0, 1).reshape(-1, 2).contiguous() for box in (low, high))
    owner, local = expand((last - first + 1).clamp(min=0).prod(1))
    cells, hits = owner.new_empty(len(owner), 3), owner.new_empty(len(owner), dtype=torch.int8)
    places = corners.new_empty(len(owner))
    if len(owner):
        crossings_kernel[(triton.cdiv(len(owner), ITEMS),)](
            corners, normals, owner, local, first, last, cells, places, hits, len(owner), count, BLOCK=ITEMS
        )
    met = hits.nonzero()[:, 0]
    axes, faces = owner[met] // max(count, 1), owner[met] % max(count, 1)
    cells, places, hits = cells[met], places[met], hits[met].long()
    inside = ((cells >= 0) & (cells < resolution)).all(1)
    number = (cells[:, 0] * resolution + cells[:, 1]) * resolution + cells[:, 2]
    slot = 3 * _group(keys, torch.where(inside, number, -1)) + axes
    # Whole numbers: the order in which they are added does not show.
    surplus = hits.new_zeros(3 * len(keys) + 3).index_add_(0, slot, hits)[: 3 * len(keys)].view(-1, 3)
    edges = hits.new_zeros(3 * len(keys) + 3).index_add_(0, slot, hits.abs())[: 3 * len(keys)].view(-1, 3) > 0
    around, rows = owner.new_empty(4 * len(met)), corners.new_zeros(4 * len(met), 13)
    if len(met):
        planes_kernel[(triton.cdiv(4 * len(met), ITEMS),)](
            normals, faces, cells, places, axes, around, rows, len(met), resolution, BLOCK=ITEMS
        )
    return edges, surplus, segment_sum(rows, _group(keys, around), len(keys))


def _borders(corners: Tensor, faces: Tensor, keys: Tensor, resolution: int) -> Tensor:
    """Quadrics float64 [n, 13] of the edges that one triangle alone has."""
    segments = _border_segments(corners, faces)
    owner, cells = _along_segments(segments, resolution)
    hits, rows = owner.new_empty(len(owner), dtype=torch.int8), corners.new_zeros(len(owner), 13)
    if len(owner):
        borders_kernel[(triton.cdiv(len(owner), ITEMS),)](segments, owner, cells, hits, rows, len(owner), BLOCK=ITEMS)
    number = (cells[:, 0] * resolution + cells[:, 1]) * resolution + cells[:, 2]
    met = hits.nonzero()[:, 0]
    return segment_sum(rows[met], _group(keys, number[met]), len(keys))


def _along_segments(segments: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Pairs of a segment [S, 2, 3] and a cell that it may run through: int64 [P], int64 [P, 3].

    Slab by slab along x, then row by row, for the box of a long segment holds a cube of cells.
    """
    first, last = _box(segments, resolution)
    owner, cells = torch.arange(len(segments), device=segments.device), first[:, :0]
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    low, high = torch.zeros_like(start[:, 0]), torch.ones_like(start[:, 0])
    for axis in range(3):
        a, d = start[owner, axis], along[owner, axis]
        ends = torch.stack([a + d * low, a + d * high], 1)
        # A cell more at either end than rounding can ask for.
        begin = (ends.amin(1).floor() - 1).clamp(0, resolution).long().maximum(first[owner, axis])
        end = (ends.amax(1).floor() + 1).clamp(-1, resolution - 1).long().minimum(last[owner, axis])
        item, inner = expand((end - begin + 1).clamp(min=0))
        cell = begin[item] + inner
        owner, cells, a, d = owner[item], torch.cat([cells[item], cell[:, None]], 1), a[item], d[item]
        step = torch.where(d == 0, 1.0, d)
        s, t = (cell - 1e-6 - a) / step, (cell + 1 + 1e-6 - a) / step
        low = torch.where(d == 0, low[item], torch.maximum(low[item], torch.minimum(s, t)))
        high = torch.where(d == 0, high[item], torch.minimum(high[item], torch.maximum(s, t)))
        kept = (low <= high).nonzero()[:, 0]
        owner, cells, low, high = owner[kept], cells[kept], low[kept], high[kept]
    return owner, cells


def _border_segments(corners: Tensor, faces: Tensor) -> Tensor:
    """Both ends of each border, float64 [S, 2, 3]; faces that name a vertex twice have none."""
    after = faces.roll(-1, 1)
    whole = (faces != after).all(1)
    low, high = torch.minimum(faces, after)[whole].flatten(), torch.maximum(faces, after)[whole].flatten()
    _, group, uses = torch.unique(torch.stack([low, high], 1), dim=0, return_inverse=True, return_counts=True)
    ends = torch.stack([corners, corners.roll(-1, 1)], 2)[whole].reshape(-1, 2, 3)
    return ends[uses[group] == 1].contiguous()


def compilations() -> list[Compilation]:
    """Every kernel as it runs on a GPU, with points in float32."""
    return [
        _compilation(rows_kernel, ROWS),
        _compilation(areas_kernel, POLYGONS),
        _compilation(crossings_kernel, ITEMS),
        _compilation(planes_kernel, ITEMS),
        _compilation(borders_kernel, ITEMS),
        _compilation(minima_kernel, ITEMS),
        *sum_compilations(13, values="*fp64"),
    ]


def _compilation(kernel: Any, block: int) -> Compilation:
    doubles = dict.fromkeys(["corners", "normals", "places", "out", "quadrics", "segments"], "*fp64")
    whole = dict.fromkeys(["owner", "local", "first", "last", "begin", "count", "keys", "cells", "axes"], "*i64")
    known = doubles | whole | {"points": "*fp32", "hits": "*i8"}
    return Compilation(kernel, {name: known.get(name, "i32") for name in kernel.arg_names}, {"BLOCK": block})
