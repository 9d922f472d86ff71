"""Triangles cut to cells in Triton: which cells of a row one touches, and the quadric of the part in each.

A convex polygon is a tensor [B, 4, 16]: coordinates (and one to spare), then corners, of which it has ``count`` [B].
Three and one for each of six planes are at most nine; the rest is for rounding.
"""

# Kernels take each of their arrays by itself.
# ruff: noqa: PLR0917
from __future__ import annotations

import triton
import triton.language as tl

from maquette_kernels.dual_grid.dual_grid_encode import weights

SLIVER = tl.constexpr(weights.SLIVER)
SLACK = tl.constexpr(1e-12)


@triton.jit
def _axis_part(triangle, axis, part, live):
    """Component ``part`` of the separating axis 0..9 of each triangle: edge by unit vector, or the normal."""
    edge = axis // 3
    unit = axis - edge * 3
    after = tl.where(edge == 2, 0, edge + 1)
    is_normal = axis >= 9
    # Of edge d = q - p and unit vector k: -d[j] along i and d[i] along j, where i, j follow k.
    other = tl.where(is_normal, 0, 3 - unit - part)
    first = tl.where(is_normal, 0, edge) * 3
    second = tl.where(is_normal, 0, after) * 3
    mask = live & (axis < 10) & (is_normal | (unit != part))
    along = tl.load(triangle + first + other, mask=mask, other=0.0)
    along -= tl.load(triangle + second + other, mask=mask, other=0.0)
    follows = (part - unit + 3) % 3 == 1
    i = (part + 1) % 3
    j = (part + 2) % 3
    return tl.where(is_normal, _normal_part(triangle, i, j, live), tl.where(follows, along, -along))


@triton.jit
def _normal_part(triangle, i, j, live):
    """One component of a triangle's normal, twice its area long."""
    ai = tl.load(triangle + i, mask=live, other=0.0)
    aj = tl.load(triangle + j, mask=live, other=0.0)
    u = tl.load(triangle + 3 + i, mask=live, other=0.0) - ai
    v = tl.load(triangle + 3 + j, mask=live, other=0.0) - aj
    p = tl.load(triangle + 6 + j, mask=live, other=0.0) - aj
    q = tl.load(triangle + 6 + i, mask=live, other=0.0) - ai
    # Where two corners are one, the sides are equal or nothing; fused arithmetic would leave a rest.
    same = ((u == q) & (v == p)) | ((u == 0) & (v == 0)) | ((p == 0) & (q == 0))
    return tl.where(same, 0.0, u * p - v * q)


@triton.jit
def _reach(triangle, x, y, z, live):
    """Least and greatest of the corners along axes (x, y, z)."""
    low = tl.full(x.shape, float("inf"), tl.float64)
    high = tl.full(x.shape, float("-inf"), tl.float64)
    for corner in tl.static_range(3):
        at = x * tl.load(triangle + 3 * corner, mask=live, other=0.0)
        at += y * tl.load(triangle + 3 * corner + 1, mask=live, other=0.0)
        at += z * tl.load(triangle + 3 * corner + 2, mask=live, other=0.0)
        low = tl.minimum(low, at)
        high = tl.maximum(high, at)
    return low, high


@triton.jit
def rows_kernel(
    corners, owner, local, first, last, begin, count, rows, size, BLOCK: tl.constexpr
):  # fmt: skip
    """For each row of cells [x, y] under a triangle, the number of the first cell touched, and how many are."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = row < rows
    face = tl.load(owner + row, mask=live, other=0)
    inner = tl.load(local + row, mask=live, other=0)
    low_y = tl.load(first + face * 3 + 1, mask=live, other=0)
    wide = tl.load(last + face * 3 + 1, mask=live, other=0) - low_y + 1
    i = tl.load(first + face * 3, mask=live, other=0) + inner // wide
    j = low_y + inner % wide
    triangle = corners + (face * 9)[:, None]
    axis = tl.arange(0, 16)[None, :]
    within = live[:, None] & (axis < 10)
    x = _axis_part(triangle, axis, 0, live[:, None])
    y = _axis_part(triangle, axis, 1, live[:, None])
    z = _axis_part(triangle, axis, 2, live[:, None])
    least, most = _reach(triangle, x, y, z, live[:, None])
    up = tl.maximum(x, 0.0) + tl.maximum(y, 0.0) + tl.maximum(z, 0.0)
    down = tl.minimum(x, 0.0) + tl.minimum(y, 0.0) + tl.minimum(z, 0.0)
    slack = SLACK * (tl.abs(least) + tl.abs(most) + up - down)
    at = x * i[:, None].to(tl.float64) + y * j[:, None].to(tl.float64)
    lower = least - up - slack - at
    upper = most - down + slack - at
    step = tl.where(z == 0, 1.0, z)
    flat = tl.where((lower > 0) | (upper < 0), float("inf"), float("-inf"))
    low = tl.where(z == 0, flat, tl.where(z > 0, lower, upper) / step)
    high = tl.where(z == 0, float("inf"), tl.where(z > 0, upper, lower) / step)
    low = tl.max(tl.where(within, low, float("-inf")), 1)
    high = tl.min(tl.where(within, high, float("inf")), 1)
    low = tl.maximum(low, tl.load(first + face * 3 + 2, mask=live, other=0).to(tl.float64))
    high = tl.minimum(high, tl.load(last + face * 3 + 2, mask=live, other=0).to(tl.float64))
    low = tl.minimum(tl.ceil(low), size + 1.0)
    high = tl.maximum(tl.floor(high), -1.0)
    tl.store(begin + row, (i * size + j) * size + low.to(tl.int64), mask=live)
    tl.store(count + row, tl.maximum(high - low + 1.0, 0.0).to(tl.int64), mask=live)


@triton.jit
def component(vectors, axis):
    """One component [B] of vectors [B, 4]."""
    return tl.sum(tl.where(tl.arange(0, 4)[None, :] == axis, vectors, 0.0), 1)


@triton.jit
def _along(polygon, axis):
    """Coordinates [B, 16] of a polygon's corners along an axis."""
    part = tl.arange(0, 4)[None, :, None]
    return tl.sum(tl.where(part == axis, polygon, 0.0), 1)


@triton.jit
def _pick(polygon, index):
    """Corners of a polygon [B, 4, 16] by their numbers [B, 16]."""
    several = tl.broadcast_to(index[:, None, :], polygon.shape)
    return tl.gather(polygon, several, 2)


@triton.jit
def _clip(polygon, count, axis, bound, sign):
    """The part of each polygon beyond a bound [B] along an axis (Sutherland, Hodgman); none of fewer than 3 corners."""
    slot = tl.arange(0, 16)[None, :]
    valid = slot < count[:, None]
    after = tl.where(slot + 1 < count[:, None], slot + 1, 0)
    d = sign * (_along(polygon, axis) - bound[:, None])
    e = tl.gather(d, after, 1)
    keep = valid & (d >= 0)
    cross = valid & (((d > 0) & (e < 0)) | ((d < 0) & (e > 0)))
    t = tl.where(cross, d / tl.where(cross, d - e, 1.0), 0.0)
    met = polygon + t[:, None, :] * (_pick(polygon, after) - polygon)
    part = tl.arange(0, 4)[None, :, None]
    met = tl.where(part == axis, bound[:, None, None], met)
    # Each corner gives itself, then its crossing; slot s holds what the first corner gives whose gifts end behind s.
    gifts = keep.to(tl.int32) + cross.to(tl.int32)
    ends = tl.cumsum(gifts, 1)
    source = tl.sum((ends[:, None, :] <= slot[:, :, None]).to(tl.int32), 2)
    source = tl.minimum(source, 15)
    itself = (tl.gather(ends - gifts, source, 1) == slot) & (tl.gather(keep.to(tl.int32), source, 1) != 0)
    made = tl.where(itself[:, None, :], _pick(polygon, source), _pick(met, source))
    left = tl.sum(gifts, 1)
    return made, tl.where(left >= 3, left, 0)


@triton.jit
def _between(polygon, count, axis, cell):
    """The part of each polygon in the slab of its cell [B] along an axis; none where it only touches the slab."""
    valid = tl.arange(0, 16)[None, :] < count[:, None]
    at = _along(polygon, axis)
    low = tl.min(tl.where(valid, at, float("inf")), 1)
    high = tl.max(tl.where(valid, at, float("-inf")), 1)
    reaches = (tl.floor(low) <= cell) & (cell <= tl.floor(high))
    polygon, count = _clip(polygon, tl.where(reaches, count, 0), axis, cell, 1.0)
    return _clip(polygon, count, axis, cell + 1.0, -1.0)


@triton.jit
def _moments(polygon, count, normal, cell):
    """Area [B] of each polygon, and its integral of places [B, 4] about the cell's low corner [B, 4]."""
    slot = tl.arange(0, 16)[None, :]
    valid = (slot >= 1) & (slot < count[:, None] - 1)
    after = tl.where(valid, slot + 1, 0)
    start = _pick(polygon, after * 0)
    u = tl.where(valid[:, None, :], polygon - start, 0.0)
    v = tl.where(valid[:, None, :], _pick(polygon, after) - start, 0.0)
    ux, uy, uz = _along(u, 0), _along(u, 1), _along(u, 2)
    vx, vy, vz = _along(v, 0), _along(v, 1), _along(v, 2)
    double = (uy * vz - uz * vy) * component(normal, 0)[:, None]
    double += (uz * vx - ux * vz) * component(normal, 1)[:, None]
    double += (ux * vy - uy * vx) * component(normal, 2)[:, None]
    weight = tl.where(valid, 0.5 * tl.abs(double) + SLIVER, 0.0)
    place = start + (u + v) / 3 - cell[:, :, None]
    return tl.sum(weight, 1), tl.sum(tl.where(valid[:, None, :], weight[:, None, :] * place, 0.0), 2)


@triton.jit
def areas_kernel(corners, normals, owner, keys, out, pairs, size, BLOCK: tl.constexpr):
    """Quadrics [P, 13] of the part of a triangle in a cell: matrix, right side, moment, area; normals [F, 4]."""
    pair = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = pair < pairs
    face = tl.load(owner + pair, mask=live, other=0)
    key = tl.load(keys + pair, mask=live, other=0)
    part = tl.arange(0, 4)[None, :]
    cell = tl.where(part == 0, (key // (size * size))[:, None], (key % size)[:, None])
    cell = tl.where(part == 1, (key // size % size)[:, None], cell).to(tl.float64)
    slot = tl.arange(0, 16)[None, None, :]
    source = corners + (face * 9)[:, None, None] + slot * 3 + part[:, :, None]
    held = live[:, None, None] & (slot < 3) & (part[:, :, None] < 3)
    polygon = tl.load(source, mask=held, other=0.0)
    normal = tl.load(normals + (face * 4)[:, None] + part, mask=live[:, None], other=0.0)
    count = tl.where(live & (tl.sum(normal * normal, 1) > 0), 3, 0)
    for axis in range(3):  # not unrolled: the code is long
        polygon, count = _between(polygon, count, axis, component(cell, axis))
    area, moment = _moments(polygon, count, normal, cell)
    row = out + pair * 13
    store_plane(row, normal, area, tl.sum(normal * moment, 1), live)
    held = live[:, None] & (part < 3)
    tl.store(row[:, None] + 9 + part, moment, mask=held)
    tl.store(row + 12, area, mask=live)


@triton.jit
def store_plane(row, normal, weight, along, live):
    """Stores squared distances to planes with normals [B, 4]: matrix (xx yy zz xy xz yz) and right side."""
    part = tl.arange(0, 4)[None, :]
    x, y, z = component(normal, 0), component(normal, 1), component(normal, 2)
    tl.store(row, weight * x * x, mask=live)
    tl.store(row + 1, weight * y * y, mask=live)
    tl.store(row + 2, weight * z * z, mask=live)
    tl.store(row + 3, weight * x * y, mask=live)
    tl.store(row + 4, weight * x * z, mask=live)
    tl.store(row + 5, weight * y * z, mask=live)
    tl.store(row[:, None] + 6 + part, along[:, None] * normal, mask=live[:, None] & (part < 3))
