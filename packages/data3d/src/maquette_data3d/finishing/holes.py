"""Holes of a surface: borders that run round, and the triangles that close them."""

from __future__ import annotations

import numpy as np
from numba import njit

_EXACT = 96  # sides up to which the smallest patch is looked for; larger holes get a fan


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Closed borders as the places of their corners, int [N, 2] each (face, corner); side i starts at corner i.

    Sides are those without a face on the other side; where several borders meet in a vertex, they are left out.

    Args:
        faces: int [F, 3], welded, turned consistently.
    """
    start, end = faces.astype(np.int64).reshape(-1), np.roll(faces, -1, 1).astype(np.int64).reshape(-1)
    size = int(faces.max(initial=0)) + 1
    side = np.minimum(start, end) * size + np.maximum(start, end)
    _, place, count = np.unique(side, return_inverse=True, return_counts=True)
    border = np.flatnonzero(count[place.reshape(-1)] == 1)
    starts, counts = np.unique(start[border], return_counts=True)
    simple = set(starts[counts == 1].tolist())
    following = {int(start[s]): int(s) for s in border if int(start[s]) in simple}
    loops, seen = [], set()
    for first in sorted(following):
        loop, vertex = [], first
        while vertex in following and vertex not in seen:
            seen.add(vertex)
            loop.append(following[vertex])
            vertex = int(end[following[vertex]])
        if len(loop) >= 3 and vertex == first:
            loops.append(np.stack([np.array(loop) // 3, np.array(loop) % 3], 1))
    return loops


def patch(points: np.ndarray) -> np.ndarray:
    """Triangles int [M, 3] over a border's points float64 [N, 3] that close it; they look the way of its faces.

    Up to 96 points the triangulation of least area (Barequet and Sharir 1995), above a fan around point N, their mean.
    """
    count = len(points)
    if count > _EXACT:
        place = np.arange(count)
        return np.stack([np.roll(place, -1), place, np.full(count, count)], 1)
    return _least_area(np.ascontiguousarray(points, np.float64))[:, ::-1]


@njit(cache=True)
def _least_area(points):
    count = len(points)
    best = np.zeros((count, count))
    middle = np.zeros((count, count), np.int64)
    for span in range(2, count):
        for i in range(count - span):
            k = i + span
            best[i, k] = np.inf
            for m in range(i + 1, k):
                across = np.cross(points[m] - points[i], points[k] - points[i])
                total = best[i, m] + best[m, k] + np.sqrt((across * across).sum())
                if total < best[i, k]:
                    best[i, k], middle[i, k] = total, m
    out = np.empty((count - 2, 3), np.int64)
    stack = [(0, count - 1)]
    number = 0
    while stack:
        i, k = stack.pop()
        if k - i < 2:
            continue
        m = middle[i, k]
        out[number, 0], out[number, 1], out[number, 2] = i, m, k
        number += 1
        stack.append((i, m))
        stack.append((m, k))
    return out
