"""Edges collapsed one after the other, the least harmful first (Garland and Heckbert 1997)."""

# Compiled functions take all arguments by position.
# ruff: noqa: PLR0917

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

_STIFF = 1e-3  # pull of an edge's middle, against that of its planes, where these leave the best place open
_FLIP = 0.2  # cosine that a face's normal may turn by in one collapse


def collapse(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, target: int, border: float = 1.0, seams: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Fewer faces for the same surface.

    Args:
        vertices: float64 [V, 3], welded; faces: int64 [F, 3], three vertices each.
        patch: int64 [F], label of each face; edges between labels are seams.
        target: faces to leave at the most.
        border, seams: weights against the surface of what holds open borders and seams in their place.

    Returns:
        vertices float64 [W, 3] and faces int64 [G, 3]; none where the target cannot be met otherwise.
    """
    planes = _face_quadrics(vertices, faces)
    quadrics = np.zeros((len(vertices), 10))
    for corner in range(3):
        np.add.at(quadrics, faces[:, corner], planes)
    edges, open_sides, seam_sides = edge_table(faces, patch)
    _hold(quadrics, vertices, faces, open_sides, border)
    _hold(quadrics, vertices, faces, seam_sides, seams)
    vertices, faces, alive = vertices.copy(), faces.copy(), np.ones(len(faces), bool)
    left = _collapse(vertices, faces, alive, quadrics, edges, target, True)
    if left > target:
        kept = np.flatnonzero(alive)
        faces, alive = faces[kept], np.ones(len(kept), bool)
        edges, _, _ = edge_table(faces, np.zeros(len(faces), np.int64))
        _collapse(vertices, faces, alive, quadrics, edges, target, False)
    used, index = np.unique(faces[alive], return_inverse=True)
    return vertices[used], index.reshape(-1, 3)


def edge_table(faces: np.ndarray, patch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All edges once, int64 [E, 2]; then the sides (face and corner, [S, 2]) of open edges and those of seams."""
    sides = np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2)
    low, high = sides.min(1), sides.max(1)
    order = np.lexsort((high, low))
    low, high = low[order], high[order]
    new = np.ones(len(order), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    edge = np.cumsum(new) - 1
    label = patch[order // 3]
    differs = np.bincount(edge, label != label[np.flatnonzero(new)][edge]) > 0
    is_open = np.bincount(edge) != 2
    at_open, at_seam = order[is_open[edge]], order[(differs & ~is_open)[edge]]
    return (
        np.stack([low[new], high[new]], 1),
        np.stack([at_open // 3, at_open % 3], 1),
        np.stack([at_seam // 3, at_seam % 3], 1),
    )


def _face_quadrics(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return _plane_quadrics(normal / np.maximum(length, 1e-30), a, length[:, 0] / 2)


def _plane_quadrics(normal: np.ndarray, point: np.ndarray, weight: np.ndarray) -> np.ndarray:
    plane = np.concatenate([normal, -(normal * point).sum(1, keepdims=True)], 1)
    rows, columns = np.triu_indices(4)
    return plane[:, rows] * plane[:, columns] * weight[:, None]


def _hold(quadrics: np.ndarray, vertices: np.ndarray, faces: np.ndarray, held: np.ndarray, weight: float) -> None:
    """Adds a plane through each held edge, upright on its face, in place."""
    face, corner = held.T
    start, end = faces[face, corner], faces[face, (corner + 1) % 3]
    a, b, c = (vertices[faces[face, i]] for i in range(3))
    along = vertices[end] - vertices[start]
    upright = np.cross(along, np.cross(b - a, c - a))
    length = np.linalg.norm(upright, axis=1, keepdims=True)
    planes = _plane_quadrics(upright / np.maximum(length, 1e-30), vertices[start], weight * (along**2).sum(1))
    np.add.at(quadrics, start, planes)
    np.add.at(quadrics, end, planes)


@njit(cache=True, inline="always")
def _error(q, x, y, z):
    """Quadric (upper triangle, row by row) at a point."""
    return (
        q[0] * x * x + q[4] * y * y + q[7] * z * z + q[9]
        + 2 * (q[1] * x * y + q[2] * x * z + q[5] * y * z + q[3] * x + q[6] * y + q[8] * z)
    )  # fmt: skip


@njit(cache=True)
def _best_place(q, a, b):
    """Where an edge's vertex does the least harm, and how much."""
    middle = (a + b) / 2
    stiff = _STIFF * (q[0] + q[4] + q[7]) + 1e-18
    m = np.array([[q[0] + stiff, q[1], q[2]], [q[1], q[4] + stiff, q[5]], [q[2], q[5], q[7] + stiff]])
    place = np.linalg.solve(m, stiff * middle - np.array([q[3], q[6], q[8]]))
    best, cost = place, _error(q, place[0], place[1], place[2])
    for other in (a, b, middle):
        error = _error(q, other[0], other[1], other[2])
        if error < cost - 1e-15:
            best, cost = other, error
    # Of harmless edges the shortest go first.
    return best, max(cost, 0.0) + 1e-9 * (q[0] + q[4] + q[7]) * ((a - b) ** 2).sum()


@njit(cache=True)
def _rings(faces, count):
    """Corners around each vertex as linked lists: first and last corner of each vertex, next of each corner."""
    first, last = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    following = np.full(faces.size, -1, np.int64)
    for corner in range(faces.size):
        v = faces[corner // 3, corner % 3]
        if first[v] < 0:
            first[v] = corner
        else:
            following[last[v]] = corner
        last[v] = corner
    return first, last, following


@njit(cache=True)
def _turns(vertices, faces, alive, first, following, moved, other, place):
    """Whether a face around ``moved`` that stays would turn over or lose its area when it moves to ``place``."""
    corner = first[moved]
    while corner >= 0:
        f = corner // 3
        if alive[f] and faces[f, 0] != other and faces[f, 1] != other and faces[f, 2] != other:
            k = corner % 3
            b, c = vertices[faces[f, (k + 1) % 3]], vertices[faces[f, (k + 2) % 3]]
            before, after = np.cross(b - vertices[moved], c - vertices[moved]), np.cross(b - place, c - place)
            long_before, long_after = np.sqrt((before**2).sum()), np.sqrt((after**2).sum())
            if (before * after).sum() < _FLIP * long_before * long_after or long_after < 1e-14:
                return True
        corner = following[corner]
    return False


@njit(cache=True)
def _pinches(faces, alive, first, following, a, b, mark, stamp):
    """Whether more vertices neighbour both ends than faces lie on the edge: its collapse would glue sheets."""
    shared = 0
    corner = first[a]
    while corner >= 0:
        f = corner // 3
        if alive[f]:
            for k in range(3):
                mark[faces[f, k]] = stamp
            shared += (faces[f, 0] == b) + (faces[f, 1] == b) + (faces[f, 2] == b)
        corner = following[corner]
    both = 0
    corner = first[b]
    while corner >= 0:
        f = corner // 3
        if alive[f]:
            for k in range(3):
                v = faces[f, k]
                if v not in (a, b) and mark[v] == stamp:
                    mark[v] = stamp - 1
                    both += 1
        corner = following[corner]
    return both > shared


@njit(cache=True)
def _collapse(vertices, faces, alive, quadrics, edges, target, careful):
    """Collapses in place until the target is met or nothing is left to do; how many faces there are then."""
    count = len(vertices)
    first, last, following = _rings(faces, count)
    version, mark, stamp = np.zeros(count, np.int64), np.zeros(count, np.int64), 1
    left = int(alive.sum())
    heap = [(0.0, np.int64(0), np.int64(0), np.int64(0), np.int64(0))]
    heap.pop()
    for e in range(len(edges)):
        a, b = edges[e, 0], edges[e, 1]
        _, cost = _best_place(quadrics[a] + quadrics[b], vertices[a], vertices[b])
        heap.append((cost, a, b, np.int64(0), np.int64(0)))
    heapq.heapify(heap)
    while left > target and heap:
        _, a, b, version_a, version_b = heapq.heappop(heap)
        if version[a] != version_a or version[b] != version_b:
            continue
        q = quadrics[a] + quadrics[b]
        place, _ = _best_place(q, vertices[a], vertices[b])
        stamp += 2
        if careful and (
            _pinches(faces, alive, first, following, a, b, mark, stamp)
            or _turns(vertices, faces, alive, first, following, a, b, place)
            or _turns(vertices, faces, alive, first, following, b, a, place)
        ):
            continue
        vertices[a], quadrics[a] = place, q
        version[a] += 1
        version[b] = -1
        left -= _merge(faces, alive, (first, last, following), a, b)
        stamp += 2
        mark[a] = stamp
        _offer(heap, vertices, faces, alive, quadrics, (first, following, version, mark), a)
    return left


@njit(cache=True)
def _merge(faces, alive, rings, a, b):
    """Gives the corners at ``b`` to ``a``; the faces between them die. How many did."""
    first, last, following = rings
    dead, corner = 0, first[b]
    while corner >= 0:
        f = corner // 3
        if alive[f]:
            if faces[f, 0] == a or faces[f, 1] == a or faces[f, 2] == a:
                alive[f] = False
                dead += 1
            faces[f, corner % 3] = a
        corner = following[corner]
    if first[b] >= 0:
        following[last[a]] = first[b]
        last[a] = last[b]
    return dead


@njit(cache=True)
def _offer(heap, vertices, faces, alive, quadrics, state, a):
    """Puts the edges of a vertex that has moved on the heap; ``mark`` of it holds the stamp of this visit."""
    first, following, version, mark = state
    stamp, corner = mark[a], first[a]
    while corner >= 0:
        f = corner // 3
        if alive[f]:
            for k in range(3):
                v = faces[f, k]
                if mark[v] != stamp:
                    mark[v] = stamp
                    _, cost = _best_place(quadrics[a] + quadrics[v], vertices[a], vertices[v])
                    heapq.heappush(heap, (cost, a, v, version[a], version[v]))
        corner = following[corner]
