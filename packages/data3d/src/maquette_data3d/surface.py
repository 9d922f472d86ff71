"""Closed triangle surfaces of cell-centred distance grids: marching cubes with tables made to stay closed.

Lorensen and Cline's cases, built here by one rule: on a face with two inside corners across from each other
the inside corners stay apart. The rule looks at one face only, so that neighbouring cells always agree, and
no triangle has an edge inside a face, which is what opens or doubles edges in the usual tables.
"""

from __future__ import annotations

import itertools

import numpy as np
from numba import njit

# Corner c of a cell sits at (c & 1, c >> 1 & 1, c >> 2 & 1).
_EDGES = [(a, b) for a, b in itertools.combinations(range(8), 2) if (a ^ b) in (1, 2, 4)]
_EDGE_OF = {frozenset(edge): number for number, edge in enumerate(_EDGES)}
_MAX_TRIANGLES = 12


def _faces() -> list[list[int]]:
    """Corners of the six faces, each as a ring that is counter-clockwise from outside."""
    faces = []
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        faces.append([1 << axis, 1 << axis | u, 1 << axis | u | v, 1 << axis | v])
        faces.append([0, v, u | v, u])
    return faces


_FACES = _faces()


def _segments(case: int) -> dict[int, int]:
    """Where the surface crosses the faces of a case: edge -> next edge, with the inside on a fixed side."""
    following = {}
    for ring in _FACES:
        inside = [bool(case >> corner & 1) for corner in ring]
        for i in range(4):
            # A run of inside corners starts at i: it is cut off by one segment, from its end to its start.
            if inside[i] and not inside[i - 1]:
                end = i
                while inside[(end + 1) % 4]:
                    end += 1
                enter = _EDGE_OF[frozenset((ring[i - 1], ring[i]))]
                leave = _EDGE_OF[frozenset((ring[end % 4], ring[(end + 1) % 4]))]
                following[enter] = leave
    return following


def _loops(case: int) -> list[list[int]]:
    following = _segments(case)
    loops = []
    while following:
        first = next(iter(following))
        loop, edge = [first], following.pop(first)
        while edge != first:
            loop.append(edge)
            edge = following.pop(edge)
        loops.append(loop)
    return loops


def _share_face(a: int, b: int) -> bool:
    return any(set(_EDGES[a]) <= set(ring) and set(_EDGES[b]) <= set(ring) for ring in _FACES)


def _triangulate(loop: list[int]) -> list[tuple[int, int, int]] | None:
    """Triangles over a loop with no diagonal inside a face of the cell, or None where there are none."""
    if len(loop) == 3:
        return [(loop[0], loop[1], loop[2])]
    last = len(loop) - 1
    for apex in range(1, last):
        left, right = loop[: apex + 1], loop[apex:]
        outer = (loop[0], loop[apex], loop[last])
        if (len(left) > 2 and _share_face(left[0], left[-1])) or (len(right) > 2 and _share_face(right[0], right[-1])):
            continue
        a = _triangulate(left) if len(left) > 2 else []
        b = _triangulate(right) if len(right) > 2 else []
        if a is not None and b is not None:
            return [outer, *a, *b]
    return None


def _table() -> tuple[np.ndarray, np.ndarray]:
    """Triangles of each case as edge numbers int8 [256, _MAX_TRIANGLES, 3], and their counts [256]."""
    triangles = np.full((256, _MAX_TRIANGLES, 3), -1, np.int8)
    counts = np.zeros(256, np.int64)
    for case in range(256):
        found = []
        for loop in _loops(case):
            pieces = _triangulate(loop)
            if pieces is None:
                raise AssertionError(f"case {case} has no closed triangulation")
            found += pieces
        counts[case] = len(found)
        for number, piece in enumerate(found):
            triangles[case, number] = piece
    return triangles, counts


_TRIANGLES, _COUNTS = _table()
_EDGE_CORNER = np.array([min(edge) for edge in _EDGES])
_EDGE_AXIS = np.array([{1: 0, 2: 1, 4: 2}[a ^ b] for a, b in _EDGES])


@njit(cache=True)
def _case(grid, x, y, z):
    """Which corners of a cell are inside, as a number of 8 bits."""
    case = 0
    for c in range(8):
        if grid[x + (c & 1), y + (c >> 1 & 1), z + (c >> 2 & 1)] < 0:
            case |= 1 << c
    return case


@njit(cache=True)
def _count(grid, counts):
    nx, ny, nz = grid.shape
    faces = 0
    for x in range(nx - 1):
        for y in range(ny - 1):
            for z in range(nz - 1):
                faces += counts[_case(grid, x, y, z)]
    return faces


@njit(cache=True)
def _march(grid, triangles, counts, edge_corner, edge_axis):
    nx, ny, nz = grid.shape
    number = np.full((3, nx, ny, nz), -1, np.int32)  # vertex of the grid edge leaving a sample along an axis
    total = _count(grid, counts)
    vertices = np.empty((total * 3, 3), np.float32)
    indices = np.empty((total, 3), np.int32)
    found, faces = 0, 0
    for x in range(nx - 1):
        for y in range(ny - 1):
            for z in range(nz - 1):
                case = _case(grid, x, y, z)
                for t in range(counts[case]):
                    for v in range(3):
                        edge = triangles[case, t, v]
                        corner, axis = edge_corner[edge], edge_axis[edge]
                        i, j, k = x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2 & 1)
                        if number[axis, i, j, k] < 0:
                            a = grid[i, j, k]
                            b = grid[i + (axis == 0), j + (axis == 1), k + (axis == 2)]
                            step = min(max(a / (a - b), 0.01), 0.99)  # no two vertices in one place
                            vertices[found, 0], vertices[found, 1], vertices[found, 2] = i, j, k
                            vertices[found, axis] += step
                            number[axis, i, j, k] = found
                            found += 1
                        indices[faces, v] = number[axis, i, j, k]
                    faces += 1
    return vertices[:found], indices


def extract(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The zero surface of a distance grid, closed and facing outwards.

    Args:
        grid: float [R, R, R] in contract order [x, y, z], cell-centred, negative inside. A surface that
            reaches the border of the grid is closed there.

    Returns:
        vertices float32 [V, 3] in the unit cube, faces int32 [F, 3]; both empty where there is no surface.
    """
    padded = np.pad(np.asarray(grid, np.float32), 1, constant_values=1.0)
    vertices, faces = _march(padded, _TRIANGLES, _COUNTS, _EDGE_CORNER, _EDGE_AXIS)
    return (vertices - 0.5) / np.float32(max(grid.shape)) - np.float32(0.5), faces
