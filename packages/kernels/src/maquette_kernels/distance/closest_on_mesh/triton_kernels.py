"""``closest_on_mesh`` in Triton: tiles of points against tiles of faces, each point with its nearest so far.

A program holds a tile of points that lie near each other and walks over the tiles of faces, from the one that a
bound says is near. A tile whose box is farther from every point than what the point has is skipped. Which face is
nearest is found in single precision; the answer on that face is then computed in double.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.distance.closest_on_mesh.triton_answer import answer_kernel, nearest
from maquette_kernels.distance.face_tiles import FACES, POINTS, along_curve, tiles_of
from maquette_kernels.segment_sum import compilations as sum_compilations
from maquette_kernels.segment_sum import segment_sum
from maquette_kernels.triton_support import Compilation

SLACK = tl.constexpr(1.00001)
"""On squared distances to boxes, which are rounded."""
TILES = 32
"""Boxes that are looked at together for a bound."""
ANSWERS = 256


@triton.jit
def _to_tile(x, y, z, rows, first, faces, FACES: tl.constexpr):
    """Least squared distance of each point to a tile's faces, and which is the first that has it."""
    face = first.to(tl.int64) + tl.arange(0, FACES)
    ax = tl.load(rows + face)[None, :]
    ay = tl.load(rows + faces + face)[None, :]
    az = tl.load(rows + 2 * faces + face)[None, :]
    bx = tl.load(rows + 3 * faces + face)[None, :]
    by = tl.load(rows + 4 * faces + face)[None, :]
    bz = tl.load(rows + 5 * faces + face)[None, :]
    cx = tl.load(rows + 6 * faces + face)[None, :]
    cy = tl.load(rows + 7 * faces + face)[None, :]
    cz = tl.load(rows + 8 * faces + face)[None, :]
    squared, _s, _t = nearest(x[:, None] - ax, y[:, None] - ay, z[:, None] - az, bx, by, bz, cx, cy, cz)
    squared = tl.where(ax - ax == 0.0, squared, float("inf"))
    least, lane = tl.min(squared, 1, return_indices=True, return_indices_tie_break_left=True)
    return least, first + lane


@triton.jit
def _to_boxes(x, y, z, boxes, tile, tiles, live):
    """Squared distances to boxes: to their nearest points, and to their farthest corners."""
    lx = x - tl.load(boxes + tile, mask=live, other=float("inf"))
    ly = y - tl.load(boxes + tiles + tile, mask=live, other=float("inf"))
    lz = z - tl.load(boxes + 2 * tiles + tile, mask=live, other=float("inf"))
    hx = x - tl.load(boxes + 3 * tiles + tile, mask=live, other=float("-inf"))
    hy = y - tl.load(boxes + 4 * tiles + tile, mask=live, other=float("-inf"))
    hz = z - tl.load(boxes + 5 * tiles + tile, mask=live, other=float("-inf"))
    u = tl.maximum(tl.maximum(-lx, hx), 0.0)
    v = tl.maximum(tl.maximum(-ly, hy), 0.0)
    w = tl.maximum(tl.maximum(-lz, hz), 0.0)
    f = tl.maximum(tl.abs(lx), tl.abs(hx))
    g = tl.maximum(tl.abs(ly), tl.abs(hy))
    h = tl.maximum(tl.abs(lz), tl.abs(hz))
    return u * u + v * v + w * w, f * f + g * g + h * h


@triton.jit
def _bound(x, y, z, boxes, tiles, TILES: tl.constexpr):
    """A squared distance within which each point has a face, and the tile that gives it: its box is not far."""
    least = tl.full(x.shape, float("inf"), tl.float32)
    found = tl.zeros(x.shape, tl.int32)
    first = tl.program_id(0) * 0  # not a constant, even where there is one tile
    while first < tiles:
        tile = first + tl.arange(0, TILES)
        _near, far = _to_boxes(
            x[:, None], y[:, None], z[:, None], boxes, tile[None, :], tiles, (tile < tiles)[None, :]
        )  # fmt: skip
        here, lane = tl.min(far, 1, return_indices=True)
        found = tl.where(here < least, (first + lane).to(tl.int32), found)
        least = tl.minimum(least, here)
        first += TILES
    return least * SLACK + 1e-37, found


@triton.jit
def search_kernel(
    points, order, rows, boxes, numbers, face_out, count, faces, tiles, point_row, point_column,
    POINTS: tl.constexpr, FACES: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    live = lane < count
    point = tl.load(order + lane, mask=live, other=0)
    place = points + point * point_row
    x = tl.load(place, mask=live, other=0.0)
    y = tl.load(place + point_column, mask=live, other=0.0)
    z = tl.load(place + 2 * point_column, mask=live, other=0.0)
    # What is no point has nothing nearer than less than nothing; NaN must not reach minima.
    sound = live & (x - x == 0.0) & (y - y == 0.0) & (z - z == 0.0)
    x, y, z = tl.where(sound, x, 0.0), tl.where(sound, y, 0.0), tl.where(sound, z, 0.0)
    best, start = _bound(x, y, z, boxes, tiles, TILES)
    best = tl.where(sound, best, -1.0)
    tile = tl.max(tl.where(sound, start, 0), 0)
    found = tl.full((POINTS,), -1, tl.int32)
    step = tl.program_id(0) * 0
    while step < tiles:
        near, _far = _to_boxes(x, y, z, boxes, tile, tiles, True)
        if tl.max((near < best).to(tl.int32), 0) > 0:
            least, which = _to_tile(x, y, z, rows, tile * FACES, faces, FACES)
            found = tl.where(least < best, which, found)
            best = tl.minimum(best, least)
        tile = tl.where(tile + 1 < tiles, tile + 1, 0)
        step += 1
    number = tl.load(numbers + found, mask=found >= 0, other=-1)
    tl.store(face_out + point, number, mask=live)


def forward(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distance, face, weights; and the direction that is kept."""
    count = len(points)
    face = torch.full((count,), -1, dtype=torch.int32, device=points.device)
    distance, weights, direction = points.new_empty(count), points.new_empty(count, 3), points.new_empty(count, 3)
    if not count:
        return distance, face, weights, direction
    if len(faces):
        tiles = tiles_of(vertices, faces)
        search_kernel[(triton.cdiv(count, POINTS),)](
            points, along_curve(points), tiles.rows, tiles.boxes, tiles.numbers, face,
            count, tiles.rows.shape[1], tiles.count, *points.stride(),
            POINTS=POINTS, FACES=FACES, TILES=TILES,
        )  # fmt: skip
    answer_kernel[(triton.cdiv(count, ANSWERS),)](
        points, vertices, faces, face, distance, weights, direction,
        count, *points.stride(), *vertices.stride(), *faces.stride(), ANSWERS=ANSWERS,
    )  # fmt: skip
    return distance, face, weights, direction


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of points and vertices; faces and weights pass none on."""
    (_, vertices, faces), (face, weights, direction), above = arguments, residuals, gradients[0]
    if above is None:
        return None, None
    pull = above[:, None] * direction
    if not len(faces):
        return pull, None
    corners = faces[face.clamp(min=0).long()].long()  # weights are 0 where there is no face
    to_vertices = segment_sum(pull.double(), corners, len(vertices), weights=-weights, dtype=vertices.dtype)
    return pull, to_vertices


def compilations() -> list[Compilation]:
    """Every kernel, as it runs on contiguous float32 points and int32 faces."""
    strides = {f"{of}_{axis}": "i32" for of in ("point", "vertex", "face") for axis in ("row", "column")}
    counts = dict.fromkeys(("count", "faces", "tiles"), "i32")
    read = dict.fromkeys(("points", "vertices", "rows", "boxes"), "*fp32")
    written = dict.fromkeys(("distance_out", "weights_out", "direction_out"), "*fp32")
    search = {**read, **counts, **strides, "order": "*i64", "numbers": "*i32", "face_out": "*i32"}
    answer = {**read, **written, **counts, **strides, "faces": "*i32", "face_in": "*i32"}
    return [
        Compilation(search_kernel, search, {"POINTS": POINTS, "FACES": FACES, "TILES": TILES}),
        Compilation(answer_kernel, answer, {"ANSWERS": ANSWERS}),
        *sum_compilations(3, values="*fp64", out="*fp32", shared=3, weighted=True),
    ]
