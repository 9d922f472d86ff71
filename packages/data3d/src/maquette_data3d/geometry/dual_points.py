"""What a dual grid holds of each voxel: edge crossings, and the quadric whose minimum is its point.

Lengths are in voxels. A quadric sums squared distances to planes, each weighted by the area that it has in the voxel,
to the planes at crossings of the edges around it, and to the lines of borders.
"""

# Compiled kernels take each of their arrays by itself.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numba import njit

# Weights of a border's length, of an edge's crossing and of the mean point, beside those of the planes' areas.
BORDER, CROSSING, MEAN = 0.2, 0.1, 0.001
# A voxel's quadric: matrix (xx yy zz xy xz yz), right side (3), sum of points (3), sum of weights.
_ROWS = 13


@njit(cache=True, nogil=True)
def _side(ax, ay, bx, by, px, py):
    """Which side of the line a-b a point is on, the same for both directions up to sign; never 0."""
    swap = (ax > bx) or (ax == bx and ay > by)
    if swap:
        ax, ay, bx, by = bx, by, ax, ay
    side = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    up = side >= 0.0
    return up != swap


def rows_of(voxels: np.ndarray, resolution: int) -> np.ndarray:
    """Where each row of voxels [x, y] starts, int64 [R^2 + 1]: a voxel is found among the few of its row."""
    return np.searchsorted(voxels[:, 0].astype(np.int64) * resolution + voxels[:, 1], np.arange(resolution**2 + 1))


@njit(cache=True, nogil=True)
def _find(heights, rows, x, y, z):
    """Place of a voxel, -1 where it is none."""
    size = np.int64(np.sqrt(len(rows)))
    if x < 0 or y < 0 or z < 0 or x >= size or y >= size:
        return -1
    low, high = rows[x * size + y], rows[x * size + y + 1]
    while low < high:
        middle = (low + high) >> 1
        if heights[middle] < z:
            low = middle + 1
        else:
            high = middle
    return low if low < rows[x * size + y + 1] and heights[low] == z else -1


@njit(cache=True, nogil=True)
def crossings(corners, heights, rows, found):
    """Crossings along each voxel's three edges less those against them, int32 [n, 3], and whether any, bool [n, 3].

    Each one's plane is added to the quadrics `found` of the voxels around its edge.

    Args:
        corners: float64 [F, 3, 3] in voxels; heights: int32 [n], z of each voxel; rows: see rows_of.
    """
    size = np.int64(np.sqrt(len(rows)))
    surplus, met = np.zeros((len(heights), 3), np.int32), np.zeros((len(heights), 3), np.bool_)
    at, point, normal = np.empty(3, np.int64), np.empty(3), np.empty(3)
    for f in range(len(corners)):
        a, b, c = corners[f, 0], corners[f, 1], corners[f, 2]
        if not _unit_normal(a, b, c, normal):
            continue
        for axis in range(3):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            area = (b[u] - a[u]) * (c[v] - a[v]) - (b[v] - a[v]) * (c[u] - a[u])
            if area == 0.0:
                continue
            low_u, low_v = np.int64(np.ceil(min(a[u], b[u], c[u]))), np.int64(np.ceil(min(a[v], b[v], c[v])))
            high_u, high_v = np.int64(np.floor(max(a[u], b[u], c[u]))), np.int64(np.floor(max(a[v], b[v], c[v])))
            for i in range(max(low_u, 0), min(high_u, size) + 1):
                for j in range(max(low_v, 0), min(high_v, size) + 1):
                    one = _side(a[u], a[v], b[u], b[v], i, j)
                    if _side(b[u], b[v], c[u], c[v], i, j) != one or _side(c[u], c[v], a[u], a[v], i, j) != one:
                        continue
                    s = ((c[v] - a[v]) * (i - a[u]) - (c[u] - a[u]) * (j - a[v])) / area
                    t = ((b[u] - a[u]) * (j - a[v]) - (b[v] - a[v]) * (i - a[u])) / area
                    point[u], point[v] = i, j
                    point[axis] = a[axis] + s * (b[axis] - a[axis]) + t * (c[axis] - a[axis])
                    at[u], at[v], at[axis] = i, j, np.int64(np.floor(point[axis]))
                    place = _find(heights, rows, at[0], at[1], at[2])
                    if place >= 0:
                        met[place, axis] = True
                        surplus[place, axis] += 1 if area > 0 else -1
                    _add_crossing(found, heights, rows, at, u, v, point, normal)
    return surplus, met


@njit(cache=True, nogil=True)
def _unit_normal(a, b, c, out):
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
def _add_crossing(found, heights, rows, at, u, v, point, normal):
    """Adds a crossing's plane to the four voxels around its edge: one may hold but a sliver of it."""
    for corner in range(4):
        cell_u, cell_v = at[u], at[v]
        at[u], at[v] = cell_u - (corner & 1), cell_v - (corner >> 1)
        place = _find(heights, rows, at[0], at[1], at[2])
        if place >= 0:
            along = 0.0
            for k in range(3):
                along += normal[k] * (point[k] - at[k])
            _add_plane(found, place, normal, CROSSING, along * CROSSING)
        at[u], at[v] = cell_u, cell_v


@njit(cache=True, nogil=True)
def _add_plane(found, place, normal, weight, along):
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
def _add_polygon(found, place, polygon, count, normal, x, y, z):
    """Adds a polygon's plane, weighted by its area, about the low corner of voxel x, y, z."""
    area, mx, my, mz = 0.0, 0.0, 0.0, 0.0
    for i in range(1, count - 1):
        ux, uy, uz = polygon[i, 0] - polygon[0, 0], polygon[i, 1] - polygon[0, 1], polygon[i, 2] - polygon[0, 2]
        j = i + 1
        vx, vy, vz = polygon[j, 0] - polygon[0, 0], polygon[j, 1] - polygon[0, 1], polygon[j, 2] - polygon[0, 2]
        double = (uy * vz - uz * vy) * normal[0] + (uz * vx - ux * vz) * normal[1] + (ux * vy - uy * vx) * normal[2]
        w = 0.5 * abs(double) + 1e-12
        area += w
        mx += w * (polygon[0, 0] + (ux + vx) / 3 - x)
        my += w * (polygon[0, 1] + (uy + vy) / 3 - y)
        mz += w * (polygon[0, 2] + (uz + vz) / 3 - z)
    _add_plane(found, place, normal, area, normal[0] * mx + normal[1] * my + normal[2] * mz)
    found[place, 9] += mx
    found[place, 10] += my
    found[place, 11] += mz
    found[place, 12] += area


@njit(cache=True, nogil=True)
def quadrics(corners, heights, rows):
    """Quadrics float64 [n, 13] of the planes in each voxel, weighted by the area that they have in it."""
    size, found = np.int64(np.sqrt(len(rows))), np.zeros((len(heights), _ROWS))
    slab, beam, part, spare = np.empty((12, 3)), np.empty((12, 3)), np.empty((12, 3)), np.empty((12, 3))
    normal = np.empty(3)
    for f in range(len(corners)):
        triangle = corners[f]
        if not _unit_normal(triangle[0], triangle[1], triangle[2], normal):
            continue
        first_x, last_x = _range(triangle, 3, 0, size)
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
                    place = _find(heights, rows, x, y, z) if count >= 3 else -1
                    if place >= 0:
                        _add_polygon(found, place, part, count, normal, x, y, z)
    return found


@njit(cache=True, nogil=True)
def add_borders(segments, heights, rows, found):
    """Adds to the quadrics what draws points to the borders of an open surface: squared distances to their lines.

    Args:
        segments: float64 [S, 2, 3] in voxels.
    """
    size, point, direction = np.int64(np.sqrt(len(rows))), np.empty(3), np.empty(3)
    for s in range(len(segments)):
        a, d = segments[s, 0], segments[s, 1] - segments[s, 0]
        length = np.sqrt((d * d).sum())
        if length == 0.0:
            continue
        direction[:] = d / length
        (first_x, last_x), (first_y, last_y) = _range(segments[s], 2, 0, size), _range(segments[s], 2, 1, size)
        first_z, last_z = _range(segments[s], 2, 2, size)
        for x in range(first_x, last_x + 1):
            for y in range(first_y, last_y + 1):
                for z in range(first_z, last_z + 1):
                    low, high = _along(a, d, x, y, z)
                    place = _find(heights, rows, x, y, z) if high > low else -1
                    if place >= 0:
                        point[:] = a + d * ((low + high) / 2)
                        point[0], point[1], point[2] = point[0] - x, point[1] - y, point[2] - z
                        _add_line(found[place], point, direction, length * (high - low))


@njit(cache=True, nogil=True)
def _along(a, d, i, j, k):
    """Where a segment enters and leaves a voxel, 0..1 along it."""
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


def solve(quadrics: np.ndarray) -> np.ndarray:
    """The minimum of each quadric, drawn a little to the mean of what lies in the voxel, and kept in it.

    Returns:
        float64 [n, 3], 0..1 along the voxel; the middle of a voxel that the surface only touches.
    """
    weight = np.maximum(quadrics[:, 12:], 1e-300)
    mean = np.where(quadrics[:, 12:] > 0, quadrics[:, 9:12] / weight, 0.5)
    matrix = quadrics[:, [0, 3, 4, 3, 1, 5, 4, 5, 2]].reshape(-1, 3, 3) / weight[:, :, None]
    right = quadrics[:, 6:9] / weight + MEAN * mean
    empty = quadrics[:, 12] <= 0
    matrix[empty], right[empty] = 0.0, MEAN * 0.5
    found = np.linalg.solve(matrix + MEAN * np.eye(3), right[:, :, None])[:, :, 0]
    return np.clip(found, 0.0, 1.0)
