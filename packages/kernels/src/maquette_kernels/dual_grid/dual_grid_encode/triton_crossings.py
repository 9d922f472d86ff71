"""Where triangles cross edges of the grid and where borders lie, in Triton, and the minima of quadrics."""

# Kernels take each of their arrays by itself.
# ruff: noqa: PLR0917
from __future__ import annotations

import triton
import triton.language as tl

from maquette_kernels.dual_grid.dual_grid_encode import weights
from maquette_kernels.dual_grid.dual_grid_encode.triton_areas import component, store_plane

CROSSING = tl.constexpr(weights.CROSSING)
BORDER = tl.constexpr(weights.BORDER)
MEAN = tl.constexpr(weights.MEAN)


@triton.jit
def _side(ax, ay, bx, by, px, py):
    """Which side of the line a-b a point is on, the same for both directions up to sign; never 0."""
    swap = (ax > bx) | ((ax == bx) & (ay > by))
    sx = tl.where(swap, bx, ax)
    sy = tl.where(swap, by, ay)
    side = tl.where(swap, ax - bx, bx - ax) * (py - sy) - tl.where(swap, ay - by, by - ay) * (px - sx)
    return (side >= 0) != swap


@triton.jit
def _between(coordinate, s, t, live):
    """A coordinate of a point of a triangle, by its parts of both sides from the first corner."""
    a = tl.load(coordinate, mask=live, other=0.0)
    b = tl.load(coordinate + 3, mask=live, other=0.0)
    c = tl.load(coordinate + 6, mask=live, other=0.0)
    return a + s * (b - a) + t * (c - a)


@triton.jit
def _find_line(owner, local, first, last, candidate, faces, live):
    """Face and axis of each candidate, and its line's places along the two axes after that."""
    item = tl.load(owner + candidate, mask=live, other=0)
    inner = tl.load(local + candidate, mask=live, other=0)
    low = tl.load(first + item * 2 + 1, mask=live, other=0)
    wide = tl.load(last + item * 2 + 1, mask=live, other=0) - low + 1
    i = tl.load(first + item * 2, mask=live, other=0) + inner // wide
    return item % faces, item // faces, i, low + inner % wide


@triton.jit
def crossings_kernel(
    corners, normals, owner, local, first, last, cells, places, hits, candidates, faces, BLOCK: tl.constexpr
):  # fmt: skip
    """For each line of the grid near a triangle, whether it meets it (1 along the axis, -1 against), and where.

    Owners are axis * F + face; first and last int64 [3 F, 2] hold their lines along the two axes after that.
    """
    candidate = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = candidate < candidates
    face, axis, i, j = _find_line(owner, local, first, last, candidate, faces, live)
    u = (axis + 1) % 3
    v = (axis + 2) % 3
    triangle = corners + face * 9
    au = tl.load(triangle + u, mask=live, other=0.0)
    av = tl.load(triangle + v, mask=live, other=0.0)
    bu = tl.load(triangle + 3 + u, mask=live, other=0.0)
    bv = tl.load(triangle + 3 + v, mask=live, other=0.0)
    cu = tl.load(triangle + 6 + u, mask=live, other=0.0)
    cv = tl.load(triangle + 6 + v, mask=live, other=0.0)
    pu = i.to(tl.float64)
    pv = j.to(tl.float64)
    one = _side(au, av, bu, bv, pu, pv)
    inside = (_side(bu, bv, cu, cv, pu, pv) == one) & (_side(cu, cv, au, av, pu, pv) == one)
    # The normal's part along the axis, for it is 0 where two corners are one.
    facing = tl.load(normals + face * 4 + axis, mask=live, other=0.0)
    met = live & inside & (facing != 0)
    area = tl.where(met, (bu - au) * (cv - av) - (bv - av) * (cu - au), 1.0)
    met = met & (area != 0)
    area = tl.where(met, area, 1.0)
    s = ((cv - av) * (pu - au) - (cu - au) * (pv - av)) / area
    t = ((bu - au) * (pv - av) - (bv - av) * (pu - au)) / area
    at = tl.where(met, _between(triangle + axis, s, t, live), 0.0)
    tl.store(places + candidate, at, mask=live)
    store_cell(cells + candidate * 3, i, j, tl.floor(at).to(tl.int64), axis, live)
    tl.store(hits + candidate, tl.where(met, tl.where(area > 0, 1, -1), 0).to(tl.int8), mask=live)


@triton.jit
def store_cell(target, i, j, k, axis, live):
    """Stores places i, j, k along the two axes after ``axis`` and along it as x, y, z."""
    tl.store(target + (axis + 1) % 3, i, mask=live)
    tl.store(target + (axis + 2) % 3, j, mask=live)
    tl.store(target + axis, k, mask=live)


@triton.jit
def planes_kernel(normals, owner, cells, places, axes, keys, out, crossings, size, BLOCK: tl.constexpr):
    """For each crossing and each of the four cells around its edge, the cell's number and the plane about it.

    Numbers are -1 outside the grid; out is float64 [4 H, 13], of which the last four stay 0.
    """
    item = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = item < 4 * crossings
    crossing = item // 4
    corner = item % 4
    axis = tl.load(axes + crossing, mask=live, other=0)
    part = tl.arange(0, 4)[None, :]
    held = live[:, None] & (part < 3)
    cell = tl.load(cells + (crossing * 3)[:, None] + part, mask=held, other=0)
    follows = (part + 3 - axis[:, None]) % 3
    cell -= tl.where(follows == 1, (corner % 2)[:, None], tl.where(follows == 2, (corner // 2)[:, None], 0))
    cell = tl.where(held, cell, 0)
    outside = tl.sum(((cell < 0) | (cell >= size)).to(tl.int32), 1) > 0
    scale = tl.where(part == 0, size * size, tl.where(part == 1, size, 1)).to(tl.int64)
    tl.store(keys + item, tl.where(outside, -1, tl.sum(cell * scale, 1)), mask=live)
    face = tl.load(owner + crossing, mask=live, other=0)
    normal = tl.load(normals + (face * 4)[:, None] + part, mask=live[:, None], other=0.0)
    along = tl.load(places + crossing, mask=live, other=0.0)
    whole = tl.load(cells + (crossing * 3)[:, None] + part, mask=held, other=0).to(tl.float64)
    point = tl.where(part == axis[:, None], along[:, None], whole)
    height = tl.sum(tl.where(held, normal * (point - cell.to(tl.float64)), 0.0), 1)
    store_plane(out + item * 13, normal, tl.where(live, CROSSING, 0.0).to(tl.float64), height * CROSSING, live)


@triton.jit
def _span(at, d, low, high, cell):
    """Narrows low..high, 0..1 along segments, to where they are in the slab of a cell along one axis."""
    step = tl.where(d == 0, 1.0, d)
    s = (cell - at) / step
    t = (cell + 1.0 - at) / step
    misses = (at < cell) | (at > cell + 1.0)
    low = tl.where(d == 0, tl.where(misses, 2.0, low), tl.maximum(low, tl.minimum(s, t)))
    return low, tl.where(d == 0, high, tl.minimum(high, tl.maximum(s, t)))


@triton.jit
def borders_kernel(segments, owner, cells, hits, out, pairs, BLOCK: tl.constexpr):
    """Whether a segment [S, 2, 3] runs through a cell [P, 3], and the quadric [P, 13] of the part in it."""
    pair = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = pair < pairs
    segment = segments + tl.load(owner + pair, mask=live, other=0) * 6
    low = tl.zeros((BLOCK,), tl.float64)
    high = low + 1.0
    squared = low
    for axis in tl.static_range(3):
        at = tl.load(segment + axis, mask=live, other=0.0)
        d = tl.load(segment + 3 + axis, mask=live, other=0.0) - at
        cell = tl.load(cells + pair * 3 + axis, mask=live, other=0).to(tl.float64)
        low, high = _span(at, d, low, high, cell)
        squared += d * d
    met = live & (high > low) & (squared > 0)
    tl.store(hits + pair, met.to(tl.int8), mask=live)
    length = tl.sqrt(tl.where(met, squared, 1.0))
    part = tl.arange(0, 4)[None, :]
    held = live[:, None] & (part < 3)
    start = tl.load(segment[:, None] + part, mask=held, other=0.0)
    along = tl.load(segment[:, None] + 3 + part, mask=held, other=0.0) - start
    corner = tl.load(cells + (pair * 3)[:, None] + part, mask=held, other=0).to(tl.float64)
    point = start + along * ((low + high) / 2)[:, None] - corner
    unit = along / length[:, None]
    weight = tl.where(met, BORDER * length * (high - low), 0.0)
    # The identity less a plane's form, of the plane that the line is normal to.
    height = tl.sum(unit * point, 1)
    _store_line(out + pair * 13, unit, point, weight, height, live)


@triton.jit
def _store_line(row, unit, point, weight, height, live):
    part = tl.arange(0, 4)[None, :]
    x, y, z = component(unit, 0), component(unit, 1), component(unit, 2)
    tl.store(row, weight * (1 - x * x), mask=live)
    tl.store(row + 1, weight * (1 - y * y), mask=live)
    tl.store(row + 2, weight * (1 - z * z), mask=live)
    tl.store(row + 3, -weight * x * y, mask=live)
    tl.store(row + 4, -weight * x * z, mask=live)
    tl.store(row + 5, -weight * y * z, mask=live)
    right = weight[:, None] * (point - unit * height[:, None])
    tl.store(row[:, None] + 6 + part, right, mask=live[:, None] & (part < 3))


@triton.jit
def minima_kernel(quadrics, points, voxels, BLOCK: tl.constexpr):
    """The minimum of each quadric [n, 13], drawn to the mean, kept in 0..1; no pivot is below MEAN."""
    voxel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = voxel < voxels
    row = quadrics + voxel * 13
    weight = tl.load(row + 12, mask=live, other=0.0)
    holds = weight > 0
    weight = tl.where(holds, weight, 1.0)
    mask = live & holds
    xx = tl.load(row, mask=mask, other=0.0) / weight + MEAN
    yy = tl.load(row + 1, mask=mask, other=0.0) / weight + MEAN
    zz = tl.load(row + 2, mask=mask, other=0.0) / weight + MEAN
    xy = tl.load(row + 3, mask=mask, other=0.0) / weight
    xz = tl.load(row + 4, mask=mask, other=0.0) / weight
    yz = tl.load(row + 5, mask=mask, other=0.0) / weight
    x = _right(row, 0, weight, holds, mask)
    y = _right(row, 1, weight, holds, mask)
    z = _right(row, 2, weight, holds, mask)
    by, bz = xy / xx, xz / xx
    y, z = y - by * x, z - bz * x
    yy, zz, yz = yy - by * xy, zz - bz * xz, yz - by * xz
    cz = yz / yy
    z = (z - cz * y) / (zz - cz * yz)
    y = (y - yz * z) / yy
    x = (x - xy * y - xz * z) / xx
    kind = points.dtype.element_ty
    tl.store(points + voxel * 3, tl.minimum(tl.maximum(x, 0.0), 1.0).to(kind), mask=live)
    tl.store(points + voxel * 3 + 1, tl.minimum(tl.maximum(y, 0.0), 1.0).to(kind), mask=live)
    tl.store(points + voxel * 3 + 2, tl.minimum(tl.maximum(z, 0.0), 1.0).to(kind), mask=live)


@triton.jit
def _right(row, axis, weight, holds, mask):
    """One component of the right side; of a cell that is only touched, half the weight of the mean."""
    mean = tl.where(holds, tl.load(row + 9 + axis, mask=mask, other=0.0) / weight, 0.5)
    return tl.load(row + 6 + axis, mask=mask, other=0.0) / weight + MEAN * mean
