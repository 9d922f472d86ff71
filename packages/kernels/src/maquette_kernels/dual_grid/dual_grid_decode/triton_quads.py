"""Quads of a dual grid in Triton: neighbours by bisection, diagonals, centres and their gradients."""

# Kernels take each of their arrays by itself.
# ruff: noqa: PLR0917
from __future__ import annotations

import triton
import triton.language as tl

from maquette_kernels.dual_grid.dual_grid_decode import reference
from maquette_kernels.dual_grid.dual_grid_decode.keys import FIELD

X_STEP, Y_STEP = tl.constexpr(1 << 2 * FIELD), tl.constexpr(1 << FIELD)
MARGIN = tl.constexpr(reference.MARGIN)


@triton.jit
def _key_step(axis):
    """What a step along an axis adds to a voxel's key."""
    along = (axis == 2).to(tl.int64) + (axis == 1).to(tl.int64) * Y_STEP
    return along + (axis == 0).to(tl.int64) * X_STEP


@triton.jit
def neighbours_kernel(keys, order, crossed, places, whole, voxels, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """For each edge (axis * N + voxel), the voxels (int32 [3 N, 4]) around it, and whether it is crossed and has all.

    Corners come in the order both below, second axis below, own, first axis below.
    """
    edge = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = edge < 3 * voxels
    axis = tl.where(live, edge // voxels, 0)
    place = edge - axis * voxels
    corner = tl.arange(0, 4)[None, :]
    first = _key_step((axis + 1) % 3)
    second = _key_step((axis + 2) % 3)
    stride = tl.where((corner == 0) | (corner == 3), first[:, None], 0)
    stride += tl.where(corner < 2, second[:, None], 0)
    mask = live[:, None] & (corner < 4)
    wanted = tl.load(keys + voxels + place, mask=live, other=0)[:, None] - stride
    low = stride * 0
    high = low + voxels
    for _ in tl.static_range(STEPS):
        middle = (low + high) // 2
        inside = mask & (low < high)
        before = inside & (tl.load(keys + middle, mask=inside, other=0) < wanted)
        high = tl.where(inside & (before == 0), middle, high)
        low = tl.where(before, middle + 1, low)
    held = mask & (low < voxels)
    found = held & (tl.load(keys + low, mask=held, other=0) == wanted)
    tl.store(places + edge[:, None] * 4 + corner, tl.load(order + low, mask=found, other=0).to(tl.int32), mask=mask)
    all_there = tl.sum(found.to(tl.int32), 1) == 4
    met = tl.load(crossed + place * 3 + axis, mask=live, other=0) != 0
    tl.store(whole + edge, (all_there & met).to(tl.int8), mask=live)


@triton.jit
def _coordinate(voxels, points, place, axis, row, skipped, live):
    """A coordinate of the points of voxels, in voxels."""
    whole = tl.load(voxels + place * row + skipped + axis, mask=live, other=0).to(tl.float64)
    return whole + tl.load(points + place * 3 + axis, mask=live, other=0.0).to(tl.float64)


@triton.jit
def _cross(ax, ay, az, bx, by, bz):
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@triton.jit
def _cosine(px, py, pz, qx, qy, qz, rx, ry, rz):
    """Between the normals of the triangles that two sides p, r span with the diagonal q from the same corner."""
    ax, ay, az = _cross(px, py, pz, qx, qy, qz)
    bx, by, bz = _cross(qx, qy, qz, rx, ry, rz)
    lengths = tl.sqrt(ax * ax + ay * ay + az * az) * tl.sqrt(bx * bx + by * by + bz * bz)
    return (ax * bx + ay * by + az * bz) / tl.maximum(lengths, 1e-300)


@triton.jit
def _bends_less(voxels, points, a, b, c, d, row, skipped, live):
    """Whether quads bend less over the diagonal b-d than over a-c."""
    ax = _coordinate(voxels, points, a, 0, row, skipped, live)
    ay = _coordinate(voxels, points, a, 1, row, skipped, live)
    az = _coordinate(voxels, points, a, 2, row, skipped, live)
    bx = _coordinate(voxels, points, b, 0, row, skipped, live) - ax
    by = _coordinate(voxels, points, b, 1, row, skipped, live) - ay
    bz = _coordinate(voxels, points, b, 2, row, skipped, live) - az
    cx = _coordinate(voxels, points, c, 0, row, skipped, live) - ax
    cy = _coordinate(voxels, points, c, 1, row, skipped, live) - ay
    cz = _coordinate(voxels, points, c, 2, row, skipped, live) - az
    dx = _coordinate(voxels, points, d, 0, row, skipped, live) - ax
    dy = _coordinate(voxels, points, d, 1, row, skipped, live) - ay
    dz = _coordinate(voxels, points, d, 2, row, skipped, live) - az
    straight = _cosine(bx, by, bz, cx, cy, cz, dx, dy, dz)
    across = _cosine(cx - bx, cy - by, cz - bz, dx - bx, dy - by, dz - bz, -bx, -by, -bz)
    return across > straight + MARGIN


@triton.jit
def cut_kernel(
    voxels, points, weights, quads, turned, count, row, skipped,
    WEIGHTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes quads int32 [Q, 4] so that they are cut from the first corner to the third."""
    quad = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = quad < count
    a = tl.load(quads + quad * 4, mask=live, other=0)
    b = tl.load(quads + quad * 4 + 1, mask=live, other=0)
    c = tl.load(quads + quad * 4 + 2, mask=live, other=0)
    d = tl.load(quads + quad * 4 + 3, mask=live, other=0)
    if WEIGHTED:
        one = _weight(weights, a, live) * _weight(weights, c, live)
        other = _weight(weights, b, live) * _weight(weights, d, live) > one
    else:
        wide = (a.to(tl.int64), b.to(tl.int64), c.to(tl.int64), d.to(tl.int64))
        other = _bends_less(voxels, points, wide[0], wide[1], wide[2], wide[3], row, skipped, live)
    tl.store(turned + quad * 4, tl.where(other, b, a), mask=live)
    tl.store(turned + quad * 4 + 1, tl.where(other, c, b), mask=live)
    tl.store(turned + quad * 4 + 2, tl.where(other, d, c), mask=live)
    tl.store(turned + quad * 4 + 3, tl.where(other, a, d), mask=live)


@triton.jit
def _weight(weights, place, live):
    return tl.load(weights + place, mask=live, other=1.0).to(tl.float64)


@triton.jit
def _share(weights, places, live, WEIGHTED: tl.constexpr):
    """The part of the diagonal 0-2 in the centre of quads [B, 4], the weights, and the sum of both products."""
    corner = tl.arange(0, 4)[None, :]
    if WEIGHTED:
        held = _weight(weights, places, live)
    else:
        held = tl.full(places.shape, 1.0, tl.float64)
    even = corner % 2 == 0
    one = tl.sum(tl.where(corner == 0, held, 0.0), 1) * tl.sum(tl.where(corner == 2, held, 0.0), 1)
    two = tl.sum(tl.where(corner == 1, held, 0.0), 1) * tl.sum(tl.where(corner == 3, held, 0.0), 1)
    total = one + two
    return tl.where(even, (one / total)[:, None], (two / total)[:, None]), held, total


@triton.jit
def centres_kernel(vertices, weights, corners, centres, count, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr):
    """Centres float64 [Q, 3] of quads [Q, 4] of vertices float64 [V, 3] and their weights [V]."""
    quad = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = (quad < count)[:, None]
    corner = tl.arange(0, 4)[None, :]
    places = tl.load(corners + quad[:, None] * 4 + corner, mask=live, other=0).to(tl.int64)
    share, _held, _total = _share(weights, places, live, WEIGHTED)
    for axis in tl.static_range(3):
        at = tl.load(vertices + places * 3 + axis, mask=live, other=0.0)
        tl.store(centres + quad * 3 + axis, tl.sum(share / 2 * at, 1), mask=quad < count)


@triton.jit
def centres_backward_kernel(
    vertices, weights, corners, above, out, count, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """What the gradients of centres give to the corners of each quad: place and weight, float64 [4 Q, 4]."""
    quad = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = (quad < count)[:, None]
    corner = tl.arange(0, 4)[None, :]
    places = tl.load(corners + quad[:, None] * 4 + corner, mask=live, other=0).to(tl.int64)
    share, held, total = _share(weights, places, live, WEIGHTED)
    sign = tl.where(corner % 2 == 0, 1.0, -1.0)
    along = tl.zeros((BLOCK,), tl.float64)
    row = out + (quad[:, None] * 4 + corner) * 4
    for axis in tl.static_range(3):
        pulled = tl.load(above + quad * 3 + axis, mask=quad < count, other=0.0)
        at = tl.load(vertices + places * 3 + axis, mask=live, other=0.0)
        along += pulled * tl.sum(sign * at, 1) / 2
        tl.store(row + axis, share / 2 * pulled[:, None], mask=live)
    # The share of the diagonal 0-2 is p / (p + q); p is the product of its weights, q that of the others.
    opposite = tl.gather(held, (corner + 2) % 4 + tl.zeros((BLOCK, 4), tl.int32), 1)
    others = tl.gather(share, (corner + 1) % 4 + tl.zeros((BLOCK, 4), tl.int32), 1)
    tl.store(row + 3, sign * (along / total)[:, None] * others * opposite, mask=live)
