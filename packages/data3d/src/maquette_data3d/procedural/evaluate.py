"""Compiled evaluation of a shape program: at points, and coarse to fine over dense grids.

A block of cells is visited only when the distance at its centre leaves room for the surface's band inside
it, and only with the primitives that can be the nearest somewhere in it. Both tests are exact for
1-Lipschitz distances, so pruning changes no bit of the result.
"""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import math

import numpy as np
from numba import njit

from maquette_data3d.procedural import primitives as prim

LEAF, BLOCK, OUTER = 2, 4, 16
CELLS = 16  # along the cube, of the table of rows near a place
FAR = 1e9
SLACK = 0.02  # for bounds of distances that jump
SETTLE_REACH = 0.03  # a point may move by this much on its way to the surface


@njit(cache=True)
def smooth_minimum(a: float, b: float, k: float) -> float:
    """Polynomial smooth minimum of radius k (I. Quilez): 1-Lipschitz, exact where |a - b| >= k."""
    if k <= 0.0:
        return min(a, b)
    h = max(k - abs(a - b), 0.0) / k
    return min(a, b) - h * h * k * 0.25


@njit(cache=True)
def shape_at(rows, chosen, count, blend, x, y, z):
    """Signed distance at a point, and its nearest part, over the first `count` rows named by `chosen`."""
    total, nearest, label = FAR, FAR, 0
    current, value = -1, FAR
    for index in range(count + 1):
        part = int(rows[chosen[index], prim.PART]) if index < count else -2
        if part != current:
            if current >= 0:
                total = smooth_minimum(total, value, blend)
                if value < nearest:
                    nearest, label = value, current
            current, value = part, FAR
        if index < count:
            row = rows[chosen[index]]
            d = prim.distance(row, x, y, z)
            if row[prim.OPERATION] == prim.ADD:
                value = min(value, d)
            else:
                value = max(value, -d)
    return total, label


@njit(cache=True)
def choose(rows, among, count, blend, x, y, z, reach, chosen, scratch):
    """Rows that matter within `reach` of a point: fills `chosen`, gives their count and the distance."""
    total, nearest = FAR, FAR
    i = 0
    while i < count:
        part, value = rows[among[i], prim.PART], FAR
        while i < count and rows[among[i], prim.PART] == part:
            row = rows[among[i]]
            scratch[i] = prim.distance(row, x, y, z)
            if row[prim.OPERATION] == prim.ADD:
                value = min(value, scratch[i])
            else:
                value = max(value, -scratch[i])
            i += 1
        total = smooth_minimum(total, value, blend)
        nearest = min(nearest, value)
    kept, part, added = 0, -1.0, False
    for j in range(count):
        row = rows[among[j]]
        if row[prim.PART] != part:
            part, added = row[prim.PART], False
        if row[prim.OPERATION] == prim.ADD:
            # Each distance moves by at most `reach`: this one can no longer win nor blend.
            if scratch[j] - nearest > 2.0 * reach + blend:
                continue
            added = True
        elif not added:
            continue
        chosen[kept] = among[j]
        kept += 1
    return kept, total


@njit(cache=True)
def distances(rows, blend, points):
    """Signed distance float32 [P] and nearest part int64 [P] at points [P, 3]."""
    everything = np.arange(rows.shape[0])
    values = np.empty(points.shape[0], np.float32)
    labels = np.empty(points.shape[0], np.int64)
    for i in range(points.shape[0]):
        d, label = shape_at(rows, everything, rows.shape[0], blend, points[i, 0], points[i, 1], points[i, 2])
        values[i] = d
        labels[i] = label
    return values, labels


@njit(cache=True)
def dense(rows, blend, resolution, truncation):
    """Dense grids over the unit cube, [x, y, z], cell-centred; R a multiple of BLOCK.

    Returns clamp(sdf / truncation, -1, 1) float32 [R, R, R] and the nearest part int64 [R, R, R]. With a
    truncation of 0 every cell's part is found; otherwise only those of cells in the band.
    """
    grid = np.ones((resolution, resolution, resolution), np.float32)
    labels = np.zeros((resolution, resolution, resolution), np.int64)
    n = rows.shape[0]
    everything, scratch = np.arange(n), np.empty(n)
    outer, inner, leaf = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(0, resolution, OUTER):
        for j in range(0, resolution, OUTER):
            for k in range(0, resolution, OUTER):
                x, y, z, reach = middle(i, j, k, OUTER, resolution)
                count, d = choose(rows, everything, n, blend, x, y, z, reach, outer, scratch)
                ends = (min(i + OUTER, resolution), min(j + OUTER, resolution), min(k + OUTER, resolution))
                if truncation > 0.0 and abs(d) > truncation + reach:
                    grid[i : ends[0], j : ends[1], k : ends[2]] = 1.0 if d > 0.0 else -1.0
                    continue
                for a in range(i, ends[0], BLOCK):
                    for b in range(j, ends[1], BLOCK):
                        for c in range(k, ends[2], BLOCK):
                            x, y, z, reach = middle(a, b, c, BLOCK, resolution)
                            kept, d = choose(rows, outer, count, blend, x, y, z, reach, inner, scratch)
                            if truncation > 0.0 and abs(d) > truncation + reach:
                                grid[a : a + BLOCK, b : b + BLOCK, c : c + BLOCK] = 1.0 if d > 0.0 else -1.0
                            elif truncation == 0.0 and rows[inner[0], prim.PART] == rows[inner[kept - 1], prim.PART]:
                                labels[a : a + BLOCK, b : b + BLOCK, c : c + BLOCK] = int(rows[inner[0], prim.PART])
                            else:
                                fill(rows, inner, kept, blend, truncation, grid, labels, a, b, c, leaf, scratch)
    return grid, labels


@njit(cache=True)
def middle(i, j, k, size, resolution):
    """Centre of a block of cells, and the distance from it to its farthest cell centre."""
    half = 0.5 * size
    reach = math.sqrt(3.0) * 0.5 * (size - 1) / resolution
    return (i + half) / resolution - 0.5, (j + half) / resolution - 0.5, (k + half) / resolution - 0.5, reach


@njit(cache=True)
def fill(rows, among, count, blend, truncation, grid, labels, i, j, k, chosen, scratch):
    """Evaluates the cells of a block: leaf by leaf, each with the rows that matter in it, where that is exact.

    It is not for bodies whose distance is a bound that may jump, nor for blended distances: parts that blend
    three at a time depend on one another a little beyond the radius that `choose` goes by.
    """
    resolution = grid.shape[0]
    exact = truncation == 0.0 or blend == 0.0
    for index in range(count):
        kind = int(rows[among[index], prim.KIND])
        exact = exact and kind not in (prim.ELLIPSOID, prim.SUPERQUADRIC)
    if not exact:
        fill_cells(rows, among, count, blend, truncation, grid, labels, i, j, k, BLOCK)
        return
    for a in range(i, i + BLOCK, LEAF):
        for b in range(j, j + BLOCK, LEAF):
            for c in range(k, k + BLOCK, LEAF):
                x, y, z, reach = middle(a, b, c, LEAF, resolution)
                kept, d = choose(rows, among, count, 0.0, x, y, z, reach, chosen, scratch)
                if truncation > 0.0 and abs(d) > truncation + reach:
                    grid[a : a + LEAF, b : b + LEAF, c : c + LEAF] = 1.0 if d > 0.0 else -1.0
                elif truncation == 0.0 and rows[chosen[0], prim.PART] == rows[chosen[kept - 1], prim.PART]:
                    labels[a : a + LEAF, b : b + LEAF, c : c + LEAF] = int(rows[chosen[0], prim.PART])
                else:
                    fill_cells(rows, chosen, kept, blend, truncation, grid, labels, a, b, c, LEAF)


@njit(cache=True)
def fill_cells(rows, chosen, count, blend, truncation, grid, labels, i, j, k, size):
    """Evaluates every cell of a cube of `size` cells."""
    resolution = grid.shape[0]
    for a in range(i, i + size):
        for b in range(j, j + size):
            for c in range(k, k + size):
                x, y, z = (
                    (a + 0.5) / resolution - 0.5,
                    (b + 0.5) / resolution - 0.5,
                    (c + 0.5) / resolution - 0.5,
                )
                d, label = shape_at(rows, chosen, count, blend, x, y, z)
                labels[a, b, c] = label
                if truncation > 0.0:
                    grid[a, b, c] = min(max(d / truncation, -1.0), 1.0)


@njit(cache=True)
def rows_near(rows, blend, points, margin, near, counts):
    """Rows that can matter within `margin` of the points [P, 3], by cell of CELLS^3: fills what points touch.

    Args:
        near: int64 [CELLS^3, rows]; counts: int64 [CELLS^3], 0 for cells that are not filled yet.
    """
    n = rows.shape[0]
    everything, scratch = np.arange(n), np.empty(n)
    reach = math.sqrt(3.0) * 0.5 / CELLS + margin + SLACK
    for i in range(points.shape[0]):
        cell = cell_of(points[i, 0], points[i, 1], points[i, 2])
        if counts[cell] == 0:
            x = (cell // (CELLS * CELLS) + 0.5) / CELLS - 0.5
            y = (cell // CELLS % CELLS + 0.5) / CELLS - 0.5
            z = (cell % CELLS + 0.5) / CELLS - 0.5
            counts[cell], _ = choose(rows, everything, n, blend, x, y, z, reach, near[cell], scratch)


@njit(cache=True)
def cell_of(x, y, z):
    """Number of the cell that holds a point of the unit cube."""
    i = min(max(int((x + 0.5) * CELLS), 0), CELLS - 1)
    j = min(max(int((y + 0.5) * CELLS), 0), CELLS - 1)
    k = min(max(int((z + 0.5) * CELLS), 0), CELLS - 1)
    return (i * CELLS + j) * CELLS + k


@njit(cache=True)
def settle(rows, blend, points, step, rounds):
    """Moves points [P, 3] onto the surface (in place) along the gradient; their unit normals float32 [P, 3].

    The gradient and the value come from four samples at the corners of a tetrahedron of size `step`.
    """
    normals = np.empty((points.shape[0], 3), np.float32)
    n = rows.shape[0]
    chosen, scratch = np.empty(n, np.int64), np.empty(n)
    near, counts = np.empty((CELLS**3, n), np.int64), np.zeros(CELLS**3, np.int64)
    rows_near(rows, blend, points, SETTLE_REACH, near, counts)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        cell = cell_of(x, y, z)
        kept, _ = choose(rows, near[cell], counts[cell], blend, x, y, z, SETTLE_REACH, chosen, scratch)
        gx, gy, gz = 0.0, 1.0, 0.0
        for _ in range(rounds):
            a, _ = shape_at(rows, chosen, kept, blend, x + step, y - step, z - step)
            b, _ = shape_at(rows, chosen, kept, blend, x - step, y - step, z + step)
            c, _ = shape_at(rows, chosen, kept, blend, x - step, y + step, z - step)
            d, _ = shape_at(rows, chosen, kept, blend, x + step, y + step, z + step)
            gx, gy, gz = a - b - c + d, -a - b + c + d, -a + b - c + d
            length = math.sqrt(gx * gx + gy * gy + gz * gz)
            if length < 1e-12:
                gx, gy, gz = 0.0, 1.0, 0.0
                break
            gx, gy, gz = gx / length, gy / length, gz / length
            move = 0.25 * (a + b + c + d)
            move = min(max(move, -0.02), 0.02)
            x, y, z = x - move * gx, y - move * gy, z - move * gz
        points[i, 0], points[i, 1], points[i, 2] = x, y, z
        normals[i, 0], normals[i, 1], normals[i, 2] = gx, gy, gz
    return normals
