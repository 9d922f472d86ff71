"""Cells of a grid that triangles touch, for CPUs: every triangle against the boxes it could meet.

The test is Akenine-Moeller's (2001), "Fast 3D triangle-box overlap testing": a triangle and a box are apart if one
of thirteen axes parts them. For one triangle the axes are fixed, so a row of cells needs only their intersection.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def touched_cells(corners: np.ndarray, resolution: int) -> np.ndarray:
    """Cells, closed boxes, that any triangle touches.

    Args:
        corners: float64 [F, 3, 3], contiguous, in cells; faces without area count as segments or points.
        resolution: cells a side; what lies outside the grid is left out.

    Returns:
        int32 [n, 3], each once, in lexicographic order [x, y, z].
    """
    words = np.zeros((resolution * resolution * resolution + 63) // 64, np.uint64)
    _mark(corners, resolution, words)
    return _marked(words, resolution)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _row(lower, upper, direction, low, high):
    """Narrows low..high to the s with lower <= s * direction <= upper."""
    if direction > 0.0:
        return max(low, lower / direction), min(high, upper / direction)
    if direction < 0.0:
        return max(low, upper / direction), min(high, lower / direction)
    if lower > 0.0 or upper < 0.0:
        return low, low - 1.0
    return low, high


@njit(cache=True, nogil=True)
def _axes(corners, axes, lower, upper):
    """Separating axes [10, 3] of a triangle and unit boxes, and the range that a box's low corner must have on each."""
    for e in range(3):
        f = (e + 1) % 3
        for k in range(3):
            i, j = (k + 1) % 3, (k + 2) % 3
            axes[e * 3 + k, k] = 0.0
            axes[e * 3 + k, i], axes[e * 3 + k, j] = corners[e, j] - corners[f, j], corners[f, i] - corners[e, i]
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        one = (corners[1, i] - corners[0, i]) * (corners[2, j] - corners[0, j])
        axes[9, k] = one - (corners[1, j] - corners[0, j]) * (corners[2, i] - corners[0, i])
    for a in range(10):
        low, high, reach_up, reach_down = np.inf, -np.inf, 0.0, 0.0
        for c in range(3):
            at = axes[a, 0] * corners[c, 0] + axes[a, 1] * corners[c, 1] + axes[a, 2] * corners[c, 2]
            low, high = min(low, at), max(high, at)
        for k in range(3):
            reach_up, reach_down = reach_up + max(axes[a, k], 0.0), reach_down + min(axes[a, k], 0.0)
        # Rounding must not part a triangle from a box that it lies in the face of.
        slack = 1e-12 * (abs(low) + abs(high) + reach_up - reach_down)
        lower[a], upper[a] = low - reach_up - slack, high - reach_down + slack


@njit(cache=True, nogil=True)
def _mark(triangles, resolution, words):
    axes, lower, upper = np.zeros((10, 3)), np.empty(10), np.empty(10)
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    for f in range(len(triangles)):
        empty, single = False, True
        for k in range(3):
            a, b, c = triangles[f, 0, k], triangles[f, 1, k], triangles[f, 2, k]
            # A closed box whose face the triangle only touches counts too.
            first[k] = max(np.ceil(min(a, b, c)) - 1.0, 0.0)
            last[k] = min(np.floor(max(a, b, c)), resolution - 1.0)
            empty |= first[k] > last[k]
            single &= first[k] == last[k] and min(a, b, c) >= first[k] and max(a, b, c) <= first[k] + 1
        if empty:
            continue
        if single:
            _set(words, (first[0] * resolution + first[1]) * resolution + first[2])
            continue
        _axes(triangles[f], axes, lower, upper)
        for i in range(first[0], last[0] + 1):
            for j in range(first[1], last[1] + 1):
                low, high = float(first[2]), float(last[2])
                for a in range(10):
                    at = axes[a, 0] * i + axes[a, 1] * j
                    low, high = _row(lower[a] - at, upper[a] - at, axes[a, 2], low, high)
                for k in range(np.int64(np.ceil(low)), np.int64(np.floor(high)) + 1):
                    _set(words, (i * resolution + j) * resolution + k)


@njit(cache=True, nogil=True)
def _set(words, cell):
    words[cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)


@njit(cache=True, nogil=True)
def _marked(words, resolution):
    count = 0
    for number in range(len(words)):
        left = words[number]
        while left:
            left &= left - np.uint64(1)
            count += 1
    cells = np.empty((count, 3), np.int32)
    count = 0
    for number in range(len(words)):
        if not words[number]:
            continue
        for bit in range(64):
            if words[number] >> np.uint64(bit) & np.uint64(1):
                cell = number * 64 + bit
                cells[count, 0] = cell // (resolution * resolution)
                cells[count, 1] = cell // resolution % resolution
                cells[count, 2] = cell % resolution
                count += 1
    return cells


@njit(cache=True, nogil=True)
def row_starts(cells, resolution):
    """Where each row [x, y] of sorted cells [n, 3] starts, int64 [R^2 + 1]: a cell is one of few in its row."""
    starts = np.zeros(resolution * resolution + 1, np.int64)
    for n in range(len(cells)):
        starts[np.int64(cells[n, 0]) * resolution + cells[n, 1] + 1] += 1
    for row in range(resolution * resolution):
        starts[row + 1] += starts[row]
    return starts


@njit(cache=True, nogil=True)
def find(heights, starts, size, cell):
    """Place of a cell (x, y, z) among sorted ones, -1 where it is none; heights: int32 [n], z of each."""
    x, y, z = cell
    if x < 0 or y < 0 or z < 0 or x >= size or y >= size:
        return -1
    low, last = starts[x * size + y], starts[x * size + y + 1]
    high = last
    while low < high:
        middle = (low + high) >> 1
        if heights[middle] < z:
            low = middle + 1
        else:
            high = middle
    return low if low < last and heights[low] == z else -1
