"""Compiled marching cubes over sorted sparse samples: neighbours by merging, marks on edges, then the emission."""

# Compiled functions take all they need by position: numba knows no keyword arguments worth having in a loop.
# ruff: noqa: PLR0917
from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.surface.march import weight
from maquette_kernels.surface.sparse_marching_cubes.keys import BITS

_ROWS = np.array([0, 1 << 2 * BITS, 1 << BITS, (1 << 2 * BITS) + (1 << BITS)], np.int64)


@njit(cache=True, nogil=True)
def find_corners(keys, corners, start, stop):
    """The eight samples of the cell that each sample begins, int32 [N, 8], -1 where there is none.

    Samples with a higher x or y come in the order of their own, so that four fingers, one for each row of a
    cell, move through the keys once.
    """
    count = len(keys)
    fingers = np.zeros(4, np.int64)
    for row in range(4):
        fingers[row] = np.searchsorted(keys, keys[start] + _ROWS[row])
    for i in range(start, stop):
        for row in range(4):
            wanted, at = keys[i] + _ROWS[row], fingers[row]
            while at < count and keys[at] < wanted:
                at += 1
            fingers[row] = at
            found = at < count and keys[at] == wanted
            corners[i, row] = at if found else -1
            after = at + found
            corners[i, row + 4] = after if after < count and keys[after] == wanted + 1 else -1


@njit(cache=True, nogil=True)
def _case(values, order, level, corners):
    """The case of a cell; 0, which has no triangles, where a sample is missing."""
    case = 0
    for c in range(8):
        if corners[c] < 0:
            return 0
        case |= np.int64(values[order[corners[c]]] < level) << c
    return case


@njit(cache=True, nogil=True)
def mark(values, order, level, corners, tables, cell_cases, marks):
    """The case of each cell, and which edges triangles have corners on, uint8 [N, 3]; gives their number."""
    slots, counts, edge_corners, axes = tables
    total = 0
    for i in range(len(corners)):
        case = _case(values, order, level, corners[i])
        cell_cases[i] = case
        for slot in range(3 * counts[case]):
            edge = slots[case, slot]
            marks[corners[i, edge_corners[edge]], axes[edge]] = 1
        total += counts[case]
    return total


@njit(cache=True, nogil=True)
def emit_vertices(values, coords, order, place, corners, numbers, vertices, edges):
    """Vertices of marked edges; `numbers` int32 [N, 3] is -1 at the others."""
    level, clearance = place
    for i in range(len(corners)):
        for axis in range(3):
            n = numbers[i, axis]
            if n >= 0:
                a, b = order[i], order[corners[i, 1 << axis]]
                for k in range(3):
                    vertices[n, k] = coords[a, k + 1]
                vertices[n, axis] += weight(values[a], values[b], level, clearance)
                edges[n, 0], edges[n, 1] = a, b


@njit(cache=True, nogil=True)
def emit_faces(cell_cases, corners, numbers, tables, faces):
    """Triangles of all cells in order."""
    slots, counts, edge_corners, axes = tables
    n = 0
    for i in range(len(corners)):
        case = cell_cases[i]
        for slot in range(3 * counts[case]):
            edge = slots[case, slot]
            faces[n + slot // 3, slot % 3] = numbers[corners[i, edge_corners[edge]], axes[edge]]
        n += counts[case]
