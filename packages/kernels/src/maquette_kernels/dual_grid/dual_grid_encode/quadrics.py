"""What a cell of a dual grid knows of the surface in it, for CPUs: the quadric whose minimum is its point.

Lengths are in cells. A quadric sums squared distances to planes, each weighted by the area that it has in the cell,
to the planes at crossings of the edges around it, and to the lines of borders. Functions fill the cells with
``first <= x < stop`` only, so that threads may share a grid by slabs; a cell's sum is in the order of the faces
however the slabs are cut.
"""

# Compiled functions take each of their arrays by itself.
# ruff: noqa: PLR0917
from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.dual_grid.dual_grid_encode.weights import BORDER, MEAN, SLIVER
from maquette_kernels.dual_grid.voxels import find

ROWS = 13
"""A cell's numbers: matrix (xx yy zz xy xz yz), right side (3), weighted sum of points (3), sum of weights."""


@njit(cache=True, nogil=True)
def unit_normal(a, b, c, out):
    """Fills the unit normal of a triangle; False where it has no area."""
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        out[k] = (b[i] - a[i]) * (c[j] - a[j]) - (b[j] - a[j]) * (c[i] - a[i])
    length = np.sqrt(out[0] * out[0] + out[1] * out[1] + out[2] * out[2])
    if length == 0.0:
        return False
    for k in range(3):
        out[k] /= length
    return True


@njit(cache=True, nogil=True)
def add_plane(found, place, normal, weight, along):
    """Adds the squared distance to a plane; along: its height over the cell's low corner, times the weight."""
    x, y, z = normal[0], normal[1], normal[2]
    found[place, 0] += weight * x * x
    found[place, 1] += weight * y * y
    found[place, 2] += weight * z * z
    found[place, 3] += weight * x * y
    found[place, 4] += weight * x * z
    found[place, 5] += weight * y * z
    found[place, 6] += along * x
    found[place, 7] += along * y
    found[place, 8] += along * z


@njit(cache=True, nogil=True)
def _clip(polygon, count, axis, bound, upper, out):
    """The part of a convex polygon [count, 3] below (upper) or above a bound along an axis (Sutherland, Hodgman)."""
    kept, sign = 0, -1.0 if upper else 1.0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        d, e = sign * (polygon[i, axis] - bound), sign * (polygon[j, axis] - bound)
        if d >= 0:
            for k in range(3):
                out[kept, k] = polygon[i, k]
            kept += 1
        if (d > 0 > e) or (d < 0 < e):
            t = d / (d - e)
            for k in range(3):
                out[kept, k] = polygon[i, k] + t * (polygon[j, k] - polygon[i, k])
            out[kept, axis] = bound
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _between(polygon, count, axis, low, out, spare):
    """The part of a polygon between low and low + 1 along an axis."""
    count = _clip(polygon, count, axis, low, False, spare)
    return _clip(spare, count, axis, low + 1, True, out) if count >= 3 else 0


@njit(cache=True, nogil=True)
def _range(polygon, count, axis, size):
    """First and last cell along an axis that a polygon may reach, within the grid."""
    low, high = polygon[0, axis], polygon[0, axis]
    for i in range(1, count):
        low, high = min(low, polygon[i, axis]), max(high, polygon[i, axis])
    return max(np.int64(np.floor(low)), 0), min(np.int64(np.floor(high)), size - 1)


@njit(cache=True, nogil=True)
def _add_polygon(found, place, polygon, count, normal, cell):
    """Adds a polygon's plane, weighted by its area, about the low corner of a cell (x, y, z)."""
    x, y, z = cell
    area, mx, my, mz = 0.0, 0.0, 0.0, 0.0
    for i in range(1, count - 1):
        ux, uy, uz = polygon[i, 0] - polygon[0, 0], polygon[i, 1] - polygon[0, 1], polygon[i, 2] - polygon[0, 2]
        j = i + 1
        vx, vy, vz = polygon[j, 0] - polygon[0, 0], polygon[j, 1] - polygon[0, 1], polygon[j, 2] - polygon[0, 2]
        double = (uy * vz - uz * vy) * normal[0] + (uz * vx - ux * vz) * normal[1] + (ux * vy - uy * vx) * normal[2]
        w = 0.5 * abs(double) + SLIVER
        area += w
        mx += w * (polygon[0, 0] + (ux + vx) / 3 - x)
        my += w * (polygon[0, 1] + (uy + vy) / 3 - y)
        mz += w * (polygon[0, 2] + (uz + vz) / 3 - z)
    add_plane(found, place, normal, area, normal[0] * mx + normal[1] * my + normal[2] * mz)
    found[place, 9] += mx
    found[place, 10] += my
    found[place, 11] += mz
    found[place, 12] += area


@njit(cache=True, nogil=True)
def add_areas(corners, heights, starts, found, size, first, stop):
    """Adds the planes of the triangles [F, 3, 3], each by the area that it has in a cell, to quadrics [n, 13]."""
    slab, beam, part, spare = np.empty((12, 3)), np.empty((12, 3)), np.empty((12, 3)), np.empty((12, 3))
    normal = np.empty(3)
    for f in range(len(corners)):
        triangle = corners[f]
        first_x, last_x = _range(triangle, 3, 0, size)
        first_x, last_x = max(first_x, first), min(last_x, stop - 1)
        if first_x > last_x or not unit_normal(triangle[0], triangle[1], triangle[2], normal):
            continue
        for x in range(first_x, last_x + 1):
            in_slab = _between(triangle, 3, 0, x, slab, spare)
            if in_slab < 3:
                continue
            first_y, last_y = _range(slab, in_slab, 1, size)
            for y in range(first_y, last_y + 1):
                in_beam = _between(slab, in_slab, 1, y, beam, spare)
                if in_beam < 3:
                    continue
                first_z, last_z = _range(beam, in_beam, 2, size)
                for z in range(first_z, last_z + 1):
                    count = _between(beam, in_beam, 2, z, part, spare)
                    place = find(heights, starts, size, (x, y, z)) if count >= 3 else -1
                    if place >= 0:
                        _add_polygon(found, place, part, count, normal, (x, y, z))


@njit(cache=True, nogil=True)
def add_borders(segments, heights, starts, found, size, first, stop):
    """Adds what draws points to borders of an open surface, segments [S, 2, 3]: squared distances to their lines."""
    direction = np.empty(3)
    for s in range(len(segments)):
        first_x, last_x = _range(segments[s], 2, 0, size)
        first_x, last_x = max(first_x, first), min(last_x, stop - 1)
        a, d = segments[s, 0], segments[s, 1] - segments[s, 0]
        length = np.sqrt((d * d).sum())
        if first_x > last_x or length == 0.0:
            continue
        direction[:] = d / length
        (first_y, last_y), (first_z, last_z) = _range(segments[s], 2, 1, size), _range(segments[s], 2, 2, size)
        for x in range(first_x, last_x + 1):
            # Only where the segment is in this slab, and in this row: a long one's box holds a cube of cells.
            low, high = _slab(a, d, 0, x, 0.0, 1.0)
            low_y, high_y = _reach(a, d, 1, low, high)
            for y in range(max(first_y, low_y), min(last_y, high_y) + 1):
                low_z, high_z = _reach(a, d, 2, *_slab(a, d, 1, y, low, high))
                for z in range(max(first_z, low_z), min(last_z, high_z) + 1):
                    place = find(heights, starts, size, (x, y, z))
                    if place >= 0:
                        _add_part(found[place], a, d, direction, length, (x, y, z))


@njit(cache=True, nogil=True)
def _slab(a, d, axis, cell, low, high):
    """Narrows low..high, 0..1 along a segment, to about where it is in a cell's slab."""
    if d[axis] == 0.0:
        return low, high
    s, t = (cell - 1e-6 - a[axis]) / d[axis], (cell + 1 + 1e-6 - a[axis]) / d[axis]
    return max(low, min(s, t)), min(high, max(s, t))


@njit(cache=True, nogil=True)
def _reach(a, d, axis, low, high):
    """Cells along an axis from low to high along a segment, and one more on both sides; none if low > high."""
    if low > high:
        return 0, -1
    s, t = a[axis] + d[axis] * low, a[axis] + d[axis] * high
    return np.int64(np.floor(min(s, t))) - 1, np.int64(np.floor(max(s, t))) + 1


@njit(cache=True, nogil=True)
def _add_part(quadric, a, d, direction, length, cell):
    """Adds the part of a segment in a cell."""
    low, high = _along(a, d, cell[0], cell[1], cell[2])
    if high > low:
        point = a + d * ((low + high) / 2)
        point[0], point[1], point[2] = point[0] - cell[0], point[1] - cell[1], point[2] - cell[2]
        _add_line(quadric, point, direction, length * (high - low))


@njit(cache=True, nogil=True)
def _along(a, d, i, j, k):
    """Where a segment enters and leaves a cell, 0..1 along it."""
    low, high = 0.0, 1.0
    cell = (i, j, k)
    for axis in range(3):
        if d[axis] == 0.0:
            if not cell[axis] <= a[axis] <= cell[axis] + 1:
                return 1.0, 0.0
            continue
        s, t = (cell[axis] - a[axis]) / d[axis], (cell[axis] + 1 - a[axis]) / d[axis]
        low, high = max(low, min(s, t)), min(high, max(s, t))
    return low, high


@njit(cache=True, nogil=True)
def _add_line(quadric, point, direction, length):
    weight = BORDER * length
    x, y, z = direction[0], direction[1], direction[2]
    xx, yy, zz, xy, xz, yz = 1 - x * x, 1 - y * y, 1 - z * z, -x * y, -x * z, -y * z
    quadric[0] += weight * xx
    quadric[1] += weight * yy
    quadric[2] += weight * zz
    quadric[3] += weight * xy
    quadric[4] += weight * xz
    quadric[5] += weight * yz
    quadric[6] += weight * (xx * point[0] + xy * point[1] + xz * point[2])
    quadric[7] += weight * (xy * point[0] + yy * point[1] + yz * point[2])
    quadric[8] += weight * (xz * point[0] + yz * point[1] + zz * point[2])


@njit(cache=True, nogil=True)
def systems(quadrics, matrices, rights):
    """Fills the equations of the quadrics' minima, [n, 3, 3] and [n, 3]; the middle of a cell that is only touched."""
    for n in range(len(quadrics)):
        q, weight = quadrics[n], quadrics[n, 12]
        if weight <= 0.0:
            matrices[n], rights[n] = 0.0, MEAN * 0.5
        else:
            matrices[n, 0, 0], matrices[n, 1, 1], matrices[n, 2, 2] = q[0] / weight, q[1] / weight, q[2] / weight
            matrices[n, 0, 1] = matrices[n, 1, 0] = q[3] / weight
            matrices[n, 0, 2] = matrices[n, 2, 0] = q[4] / weight
            matrices[n, 1, 2] = matrices[n, 2, 1] = q[5] / weight
            for k in range(3):
                rights[n, k] = q[6 + k] / weight + MEAN * (q[9 + k] / weight)
        for k in range(3):
            matrices[n, k, k] += MEAN
