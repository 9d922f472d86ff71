"""The kernel that finds where an outline crosses between two pixels. Decisions are made in whole numbers."""

# ruff: noqa: PLR0917  (kernels take plain positional arguments)
from __future__ import annotations

import triton
import triton.language as tl

from maquette_kernels.raster.antialias.reference import THINNEST

_THINNEST = tl.constexpr(THINNEST)


@triton.jit
def point(xy, vertex, mask):
    """A vertex on the screen in 1/256 of a pixel, int64."""
    x = tl.load(xy + vertex * 2, mask=mask, other=0).to(tl.int64)
    return x, tl.load(xy + vertex * 2 + 1, mask=mask, other=0).to(tl.int64)


@triton.jit
def beside(ax, ay, bx, by, x, y):
    """Twice the signed area of triangles of an edge and a point."""
    return (bx - ax) * (y - ay) - (by - ay) * (x - ax)


@triton.jit
def on_screen(clip, vertex, mask, size, AXIS: tl.constexpr):
    """Column (axis 0) or row of a vertex, float64, and its w."""
    w = tl.load(clip + vertex * 4 + 3, mask=mask, other=1.0)
    return (tl.load(clip + vertex * 4 + AXIS, mask=mask, other=0.0) / w + 1.0) * (0.5 * size), w


@triton.jit
def _closer(best, share, chosen, turn, ax, ay, bx, by, x, y, u, v, NUMBER: tl.constexpr):
    """Edge NUMBER in place of the best so far, where a step from (x, y) to (u, v) leaves the face by it earlier."""
    inside, outside = turn * beside(ax, ay, bx, by, x, y), turn * beside(ax, ay, bx, by, u, v)
    apart = tl.where(inside > outside, inside - outside, 1)
    here = inside.to(tl.float64) / apart.to(tl.float64)
    first = (inside >= 0) & (outside <= 0) & (inside > outside) & (here < share)
    return tl.where(first, NUMBER, best), tl.where(first, here, share), chosen | first


@triton.jit
def _front(face_id, depth, pixel, pixels, height, width, AXIS: tl.constexpr):
    """The face in front of each pair of different pixels, whether it is the first's, and whether there is a pair."""
    column, row = pixel % width, pixel // width % height
    there = (pixel < pixels) & ((column + 1 < width) if AXIS == 0 else (row + 1 < height))
    step = 1 if AXIS == 0 else width
    p = tl.load(face_id + pixel, mask=there, other=-1)
    q = tl.load(face_id + pixel + step, mask=there, other=-1)
    near = tl.load(depth + pixel, mask=there, other=0.0) <= tl.load(depth + pixel + step, mask=there, other=0.0)
    front = (p >= 0) & ((q < 0) | near)
    return tl.where(front, p, q).to(tl.int64), front, there & (p != q), column, row


@triton.jit
def _is_outline(xy, safe, opposite, turn, ax, ay, bx, by, first, mask, AXIS: tl.constexpr):
    """Whether an edge is steep enough for its direction, and the face on its other side is hidden or missing."""
    run, rise = tl.abs(bx - ax), tl.abs(by - ay)
    steep = rise >= run if AXIS == 0 else run > rise
    known = mask & (opposite >= 0)
    ox, oy = point(xy, first + opposite, known)
    folds = known & (tl.load(safe + first + opposite, mask=known, other=0) != 0)
    folds = folds & (turn * beside(ax, ay, bx, by, ox, oy) >= 0)
    return mask & steep & ((opposite < 0) | folds)


@triton.jit
def edge_kernel(
    face_id, depth, clip, xy, safe, faces, opposites, shift, edge, pixels, vertices, height, width,
    AXIS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Shift and edge of each pixel and the next to the right (AXIS 0) or below; untouched where none crosses."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    face, front, open_, column, row = _front(face_id, depth, pixel, pixels, height, width, AXIS)
    picture = pixel // width // height
    first = picture * vertices
    i = first + tl.load(faces + face * 3, mask=open_, other=0).to(tl.int64)
    j = first + tl.load(faces + face * 3 + 1, mask=open_, other=0).to(tl.int64)
    k = first + tl.load(faces + face * 3 + 2, mask=open_, other=0).to(tl.int64)
    open_ = open_ & (tl.load(safe + i, mask=open_, other=0) != 0) & (tl.load(safe + j, mask=open_, other=0) != 0)
    open_ = open_ & (tl.load(safe + k, mask=open_, other=0) != 0)
    ax, ay = point(xy, i, open_)
    bx, by = point(xy, j, open_)
    cx, cy = point(xy, k, open_)
    area = beside(ax, ay, bx, by, cx, cy)
    turn = tl.where(area > 0, 1, -1).to(tl.int64)
    x, y = column * 256 + 128, row * 256 + 128
    u, v = (x + 256, y) if AXIS == 0 else (x, y + 256)
    x, u, y, v = tl.where(front, x, u), tl.where(front, u, x), tl.where(front, y, v), tl.where(front, v, y)
    share = tl.zeros((BLOCK,), tl.float64) + 2.0
    best, found = tl.zeros((BLOCK,), tl.int64), turn > 1
    best, share, found = _closer(best, share, found, turn, ax, ay, bx, by, x, y, u, v, 0)
    best, share, found = _closer(best, share, found, turn, bx, by, cx, cy, x, y, u, v, 1)
    best, share, found = _closer(best, share, found, turn, cx, cy, ax, ay, x, y, u, v, 2)
    open_ = open_ & found & (area != 0)
    a, b = tl.where(best == 0, i, tl.where(best == 1, j, k)), tl.where(best == 0, j, tl.where(best == 1, k, i))
    ax, ay = point(xy, a, open_)
    bx, by = point(xy, b, open_)
    opposite = tl.load(opposites + face * 3 + best, mask=open_, other=-1).to(tl.int64)
    open_ = _is_outline(xy, safe, opposite, turn, ax, ay, bx, by, first, open_, AXIS)
    _store(clip, shift, edge, a, b, face * 3 + best, pixel, column, row, open_, height, width, AXIS)


@triton.jit
def _store(clip, shift, edge, a, b, number, pixel, column, row, mask, height, width, AXIS: tl.constexpr):
    """Where the edge crosses between the two pixels, from the middle between them, in pixels."""
    along, across = (width, height) if AXIS == 0 else (height, width)
    low, _wa = on_screen(clip, a, mask, across, 1 - AXIS)
    high, _wb = on_screen(clip, b, mask, across, 1 - AXIS)
    start, _wc = on_screen(clip, a, mask, along, AXIS)
    stop, _wd = on_screen(clip, b, mask, along, AXIS)
    mask = mask & (tl.abs(high - low) > _THINNEST)
    at, between = (row, column) if AXIS == 0 else (column, row)
    part = (at.to(tl.float64) + 0.5 - low) / tl.where(mask, high - low, 1.0)
    crossing = start + part * (stop - start) - (between.to(tl.float64) + 1.0)
    plane = width * height
    place = pixel // plane * 2 * plane + AXIS * plane + pixel % plane
    tl.store(shift + place, tl.minimum(tl.maximum(crossing, -0.5), 0.5).to(tl.float32), mask=mask)
    tl.store(edge + place, number.to(tl.int32), mask=mask)
