"""The triangles of each of the 256 cases of marching cubes, made so that surfaces stay closed.

Lorensen and Cline's cases, built here by one rule: on a face with two inside corners across from each other
the inside corners stay apart. The rule looks at one face only, so that neighbouring cells always agree, and
no triangle has an edge inside a face, which is what opens or doubles edges in the usual tables.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

SLOTS = 16
"""Room for the corners of one cell's triangles: at most 5 triangles, and one slot over."""

# Corner c of a cell sits at (c & 1, c >> 1 & 1, c >> 2 & 1).
_EDGES = [(a, b) for a, b in itertools.combinations(range(8), 2) if (a ^ b) in (1, 2, 4)]
_EDGE_OF = {frozenset(edge): number for number, edge in enumerate(_EDGES)}


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
        if any(len(part) > 2 and _share_face(part[0], part[-1]) for part in (left, right)):
            continue
        pieces = [_triangulate(part) if len(part) > 2 else [] for part in (left, right)]
        if pieces[0] is not None and pieces[1] is not None:
            return [(loop[0], loop[apex], loop[last]), *pieces[0], *pieces[1]]
    return None


@cache
def triangles() -> tuple[np.ndarray, np.ndarray]:
    """Edges that the triangles of each case have their corners on, and the number of triangles.

    Returns:
        edges int32 [256, SLOTS], three a triangle and -1 past the last; counts int32 [256].
    """
    slots = np.full((256, SLOTS), -1, np.int32)
    counts = np.zeros(256, np.int32)
    for case in range(256):
        pieces = [_triangulate(loop) for loop in _loops(case)]
        if None in pieces:
            raise AssertionError(f"case {case} has no closed triangulation")
        found = [triangle for piece in pieces if piece is not None for triangle in piece]
        slots[case, : 3 * len(found)] = np.array(found, np.int32).reshape(-1)
        counts[case] = len(found)
    return slots, counts


@cache
def edges() -> tuple[np.ndarray, np.ndarray]:
    """Where the twelve edges of a cell lie: the corner that each leaves from and its axis, both int32 [12]."""
    corner = np.array([min(edge) for edge in _EDGES], np.int32)
    axis = np.array([{1: 0, 2: 1, 4: 2}[a ^ b] for a, b in _EDGES], np.int32)
    return corner, axis
