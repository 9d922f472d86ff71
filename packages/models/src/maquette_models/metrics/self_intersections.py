"""Faces of a mesh that pass through other faces: candidates from a grid, then an exact test of each pair.

Two triangles are convex, so they meet exactly where no axis separates them (Gottschalk et al. 1996): their normals, the
products of their edges, and for those in one plane the directions across their edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from maquette.types import Mesh
from maquette_models.metrics.mesh_topology import welded

TOUCH = 1e-7  # depth, as a share of the mesh's size, up to which faces touch and do not intersect
FINEST = 128  # cells of the candidates' grid along the longest side
MOST_ENTRIES = 4_000_000  # faces counted once a cell; more than that and the grid is made coarser
PARALLEL = 1e-14  # length of a product of edges from which it is a direction
CHUNK = 200_000  # pairs tested at once

Triangles = NDArray[np.float64]
"""Corners of triangles, [N,3,3]."""


def intersecting_faces(mesh: Mesh) -> NDArray[np.bool_]:
    """Which faces [F] intersect another one; vertices in one place are merged and faces without area left out first.

    Faces that share a vertex meet there by right: they count where the far edge of one goes through the other. Those
    that share an edge count where they lie on each other. Faces that only touch do not count; other faces in one
    plane that overlap do.
    """
    vertices, faces = welded(mesh)
    corners = vertices[faces]
    found = np.zeros(len(faces), bool)
    if not len(faces):
        return found
    depth = TOUCH * float(np.ptp(corners.reshape(-1, 3), axis=0).max())
    for one, other in _candidates(corners):
        shared = (faces[one][:, :, None] == faces[other][:, None, :]).any(axis=2).sum(axis=1)
        for count, test in enumerate((_overlap, _cross, _folded, _same)):
            rows = shared == count
            if rows.any():
                a, b = one[rows], other[rows]
                hit = test(_turned(corners, faces, a, b), _turned(corners, faces, b, a), depth)
                found[a[hit]] = found[b[hit]] = True
    return found


def _candidates(corners: Triangles) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of faces, each once, whose boxes overlap."""
    low = np.minimum(np.minimum(corners[:, 0], corners[:, 1]), corners[:, 2])
    high = np.maximum(np.maximum(corners[:, 0], corners[:, 1]), corners[:, 2])
    face, cell, first = _entries(low, high)
    order = np.lexsort((cell[:, 2], cell[:, 1], cell[:, 0]))
    face, cell = face[order], cell[order]
    ends = np.append(np.flatnonzero((cell[1:] != cell[:-1]).any(axis=1)) + 1, len(cell))
    partners = np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(len(cell)) - 1
    chunk = np.cumsum(partners) // CHUNK
    for rows in np.split(np.arange(len(cell)), np.flatnonzero(np.diff(chunk)) + 1):
        row = np.repeat(rows, partners[rows])
        step = np.arange(len(row)) - np.repeat(np.cumsum(partners[rows]) - partners[rows], partners[rows]) + 1
        one, other = face[row], face[row + step]
        # A pair meets in many cells; it counts in the one that holds the lowest corner of what its boxes share.
        here = (np.maximum(first[one], first[other]) == cell[row]).all(axis=1)
        here &= (low[one] <= high[other]).all(axis=1) & (low[other] <= high[one]).all(axis=1)
        yield one[here], other[here]


def _entries(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Every cell of a grid that a face's box reaches into, (face [N], cell [N,3]), and each face's lowest [F,3]."""
    origin, side = low.min(axis=0), float((high.max(axis=0) - low.min(axis=0)).max())
    size = max(side / FINEST, float(np.median((high - low).max(axis=1))))
    while True:
        first, last = (np.floor((ends - origin) / size).astype(np.int64) for ends in (low, high))
        spans = last - first + 1
        counts = spans.prod(axis=1)
        if counts.sum() <= MOST_ENTRIES or size >= side:
            break
        size *= 2
    face = np.repeat(np.arange(len(low)), counts)
    step = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    x, rest = np.divmod(step, spans[face, 1] * spans[face, 2])
    y, z = np.divmod(rest, spans[face, 2])
    return face, first[face] + np.stack([x, y, z], axis=1), first


def _turned(
    corners: Triangles, faces: NDArray[np.int64], own: NDArray[np.int64], other: NDArray[np.int64]
) -> Triangles:
    """Corners of the faces `own`, rotated so that those they share with `other` come first."""
    shared = (faces[own][:, :, None] == faces[other][:, None, :]).any(axis=2)
    begin = np.where(shared.sum(axis=1) == 2, (np.argmin(shared, axis=1) + 1) % 3, np.argmax(shared, axis=1))
    return np.take_along_axis(corners[own], ((begin[:, None] + np.arange(3)) % 3)[..., None], axis=1)


def _overlap(a: Triangles, b: Triangles, depth: float) -> NDArray[np.bool_]:
    """Whether triangles without a common vertex intersect by more than `depth`."""
    rows = np.arange(len(a))
    for axes in (_normals, _across_edges, _edge_products):  # most pairs are apart along the first
        one, other = a[rows], b[rows]
        rows = rows[~_apart(one, other, axes(one, other), depth)]
    hit = np.zeros(len(a), bool)
    hit[rows] = True
    return hit


def _normals(a: Triangles, b: Triangles) -> list[NDArray[np.float64]]:
    return [np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]) for t in (a, b)]


def _across_edges(a: Triangles, b: Triangles) -> list[NDArray[np.float64]]:
    """Directions in the plane of each triangle, across each of its edges."""
    return [
        np.cross(normal, t[:, (corner + 1) % 3] - t[:, corner])
        for normal, t in zip(_normals(a, b), (a, b), strict=True)
        for corner in range(3)
    ]


def _edge_products(a: Triangles, b: Triangles) -> list[NDArray[np.float64]]:
    edges = [[t[:, (corner + 1) % 3] - t[:, corner] for corner in range(3)] for t in (a, b)]
    return [np.cross(one, other) for one in edges[0] for other in edges[1]]


def _apart(a: Triangles, b: Triangles, axes: list[NDArray[np.float64]], depth: float) -> NDArray[np.bool_]:
    """Whether one of the axes [N,3] separates triangles, which may touch by `depth`."""
    found = np.zeros(len(a), bool)
    for axis in axes:
        length = np.linalg.norm(axis, axis=1)
        unit = axis / np.maximum(length, 1e-300)[:, None]
        (low, high), (other_low, other_high) = (_reach(t, unit) for t in (a, b))
        gap = np.maximum(low - other_high, other_low - high)
        # Triangles in one plane touch along its normal, which does not separate them. Parallel edges span no axis.
        flat = (high - low <= depth) & (other_high - other_low <= depth)
        found |= (length > PARALLEL) & (gap > np.where(flat, depth, -depth))
    return found


def _reach(t: Triangles, unit: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest coordinate of triangles along directions."""
    x, y, z = (np.einsum("ni,ni->n", t[:, corner], unit) for corner in range(3))
    return np.minimum(np.minimum(x, y), z), np.maximum(np.maximum(x, y), z)


def _cross(a: Triangles, b: Triangles, depth: float) -> NDArray[np.bool_]:
    """Whether triangles with their first corner in common intersect elsewhere: the far edge of one goes through the
    other."""
    return _pierced(a[:, 1], a[:, 2], b, depth) | _pierced(b[:, 1], b[:, 2], a, depth)


def _folded(a: Triangles, b: Triangles, depth: float) -> NDArray[np.bool_]:
    """Whether triangles with their first two corners in common lie on each other: in one plane, on one side of the
    edge."""
    edge = a[:, 1] - a[:, 0]
    across = [np.cross(edge, t[:, 2] - a[:, 0]) for t in (a, b)]
    return _coplanar(a, b, depth) & (np.einsum("ni,ni->n", *across) > 0)


def _same(a: Triangles, b: Triangles, depth: float) -> NDArray[np.bool_]:
    """Triangles with all corners in common are the same."""
    return np.ones(len(a), bool)


def _pierced(start: NDArray[np.float64], stop: NDArray[np.float64], t: Triangles, depth: float) -> NDArray[np.bool_]:
    """Whether segments [N,3] go through the inside of triangles."""
    u, v = t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]
    normal = np.cross(u, v)
    doubled = np.linalg.norm(normal, axis=1)
    unit = normal / np.maximum(doubled, 1e-300)[:, None]
    above, below = (np.einsum("ni,ni->n", p - t[:, 0], unit) for p in (start, stop))
    crosses = (np.minimum(above, below) < -depth) & (np.maximum(above, below) > depth)
    share = above / np.where(crosses, above - below, 1.0)
    point = start + share[:, None] * (stop - start)
    inside = crosses
    for corner in range(3):
        p, q = t[:, corner], t[:, (corner + 1) % 3]
        side = np.einsum("ni,ni->n", np.cross(q - p, point - p), unit)
        inside = inside & (side > depth * np.linalg.norm(q - p, axis=1))
    return inside


def _coplanar(a: Triangles, b: Triangles, depth: float) -> NDArray[np.bool_]:
    normal = np.cross(a[:, 1] - a[:, 0], a[:, 2] - a[:, 0])
    unit = normal / np.maximum(np.linalg.norm(normal, axis=1), 1e-300)[:, None]
    return (np.abs(np.einsum("nci,ni->nc", b - a[:, :1], unit)) <= depth).all(axis=1)
