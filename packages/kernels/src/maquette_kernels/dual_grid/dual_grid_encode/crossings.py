"""Where triangles cross the edges of a grid, for CPUs."""

# Compiled functions take each of their arrays by itself.
# ruff: noqa: PLR0917
from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.dual_grid.dual_grid_encode.quadrics import add_plane, unit_normal
from maquette_kernels.dual_grid.dual_grid_encode.weights import CROSSING
from maquette_kernels.dual_grid.voxels import find


@njit(cache=True, nogil=True)
def _side(ax, ay, bx, by, px, py):
    """Which side of the line a-b a point is on, the same for both directions up to sign; never 0."""
    swap = (ax > bx) or (ax == bx and ay > by)
    if swap:
        ax, ay, bx, by = bx, by, ax, ay
    side = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    up = side >= 0.0
    return up != swap


@njit(cache=True, nogil=True)
def add_crossings(corners, heights, starts, found, surplus, met, size, first, stop):
    """Counts crossings of the triangles [F, 3, 3] with the edges from each cell's low corner along x, y, z.

    Fills ``surplus`` int32 [n, 3], those along the edge less those against it, and ``met`` bool [n, 3], whether any;
    adds each one's plane to the quadrics ``found`` [n, 13] of the cells around its edge.
    """
    normal = np.empty(3)
    for f in range(len(corners)):
        a, b, c = corners[f, 0], corners[f, 1], corners[f, 2]
        # A crossing's place is rounded, so the slab takes faces from one cell further.
        if max(a[0], b[0], c[0]) < first - 1 or min(a[0], b[0], c[0]) > stop + 1:
            continue
        if unit_normal(a, b, c, normal):
            for axis in range(3):
                _cross(a, b, c, axis, normal, heights, starts, found, surplus, met, size, first, stop)


@njit(cache=True, nogil=True)
def _cross(a, b, c, axis, normal, heights, starts, found, surplus, met, size, first, stop):
    """Crossings of one triangle along one axis."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    area = (b[u] - a[u]) * (c[v] - a[v]) - (b[v] - a[v]) * (c[u] - a[u])
    if area == 0.0:
        return
    at, point = np.empty(3, np.int64), np.empty(3)
    low_u, high_u = _lattice(a[u], b[u], c[u], size, u == 0, first, stop)
    low_v, high_v = _lattice(a[v], b[v], c[v], size, v == 0, first, stop)
    for i in range(low_u, high_u + 1):
        for j in range(low_v, high_v + 1):
            one = _side(a[u], a[v], b[u], b[v], i, j)
            if _side(b[u], b[v], c[u], c[v], i, j) != one or _side(c[u], c[v], a[u], a[v], i, j) != one:
                continue
            s = ((c[v] - a[v]) * (i - a[u]) - (c[u] - a[u]) * (j - a[v])) / area
            t = ((b[u] - a[u]) * (j - a[v]) - (b[v] - a[v]) * (i - a[u])) / area
            point[u], point[v] = i, j
            point[axis] = a[axis] + s * (b[axis] - a[axis]) + t * (c[axis] - a[axis])
            at[u], at[v], at[axis] = i, j, np.int64(np.floor(point[axis]))
            if first <= at[0] < stop:
                place = find(heights, starts, size, (at[0], at[1], at[2]))
                if place >= 0:
                    met[place, axis] = True
                    surplus[place, axis] += 1 if area > 0 else -1
            _add_around(found, heights, starts, at, axis, point, normal, size, first, stop)


@njit(cache=True, nogil=True)
def _lattice(a, b, c, size, is_x, first, stop):
    """Lines of the grid that three coordinates span; along x those only that a slab's cells touch."""
    low, high = max(np.int64(np.ceil(min(a, b, c))), 0), min(np.int64(np.floor(max(a, b, c))), size)
    return (max(low, first), min(high, stop)) if is_x else (low, high)


@njit(cache=True, nogil=True)
def _add_around(found, heights, starts, at, axis, point, normal, size, first, stop):
    """Adds a crossing's plane to the four cells around its edge: one may hold but a sliver of it."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    for corner in range(4):
        cell_u, cell_v = at[u], at[v]
        at[u], at[v] = cell_u - (corner & 1), cell_v - (corner >> 1)
        place = find(heights, starts, size, (at[0], at[1], at[2])) if first <= at[0] < stop else -1
        if place >= 0:
            along = 0.0
            for k in range(3):
                along += normal[k] * (point[k] - at[k])
            add_plane(found, place, normal, CROSSING, along * CROSSING)
        at[u], at[v] = cell_u, cell_v
