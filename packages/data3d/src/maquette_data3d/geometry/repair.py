"""Repairs that every mesh gets, each counted: welding, cleaning, and turning faces the same way round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

WELD = 1e-6  # of the longest side
LONGEST_SIDE = 0.9


@dataclass(frozen=True)
class CleanMesh:
    """Triangles in the unit cube, centred, longest side 0.9.

    Attributes:
        vertices: float64 [V, 3]; faces: int32 [F, 3]; corner_colors: uint8 [F, 3, 3].
        component: int32 [F], number of the connected part of each face.
        repairs: what was done, with counts: {"merged_vertices": 12, "flipped_faces": 3, ...}.
        source_face: int32 [F], which input face each face is.
        turned: bool [F], whether its corners stand in reverse order against the input.
        source_vertex: int32 [V], an input vertex that each vertex stands for: the first of those it merges.
        scale, offset: a point of the input is here at `point * scale + offset`; offset is float64 [3].
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_colors: np.ndarray
    component: np.ndarray
    repairs: dict[str, int]
    source_face: np.ndarray
    turned: np.ndarray
    source_vertex: np.ndarray
    scale: float
    offset: np.ndarray


def clean(vertices: np.ndarray, faces: np.ndarray, corner_colors: np.ndarray) -> CleanMesh:
    """Normalises, welds, drops what has no area or is there twice, and makes the winding consistent.

    Args:
        vertices: float64 [V, 3], finite, not all in one place; faces: int [F, 3]; corner_colors: uint8 [F, 3, 3].
    """
    repairs: dict[str, int] = {}
    used, index = _referenced(faces, len(vertices))
    if len(used) < len(vertices):
        repairs["unreferenced_vertices"] = len(vertices) - len(used)
    scale, offset = placement(vertices[used])
    placed = normalise(vertices[used])
    welded, first, inverse = _weld(placed)
    if len(welded) < len(placed):
        repairs["merged_vertices"] = len(placed) - len(welded)
    faces = inverse[index]
    kept = np.flatnonzero(_with_area(welded, faces))
    if len(kept) < len(faces):
        repairs["degenerate_faces"] = len(faces) - len(kept)
    single = kept[_first_of_each(faces[kept], len(welded))]
    if len(single) < len(kept):
        repairs["duplicate_faces"] = len(kept) - len(single)
    faces, corner_colors = faces[single], corner_colors[single]
    areas = np.linalg.norm(_area_vectors(welded, faces), axis=1)
    flip = inconsistent(faces.astype(np.int64), areas)
    if flip.any():
        repairs["flipped_faces"] = int(flip.sum())
        faces, corner_colors = reverse(faces, flip), reverse(corner_colors, flip)
    return CleanMesh(
        vertices=welded,
        faces=faces.astype(np.int32),
        corner_colors=corner_colors,
        component=components(faces, len(welded)),
        repairs=repairs,
        source_face=single.astype(np.int32),
        turned=flip,
        source_vertex=used[first].astype(np.int32),
        scale=scale,
        offset=offset,
    )


def placement(vertices: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and offset float64 [3] that bring a mesh's vertices into the unit cube, centred, longest side 0.9."""
    low, high = vertices.min(0), vertices.max(0)
    scale = float(LONGEST_SIDE / (high - low).max())
    return scale, -(low + high) / 2 * scale


def normalise(vertices: np.ndarray) -> np.ndarray:
    """Centred, with the longest side of the bounding box at 0.9."""
    low, high = vertices.min(0), vertices.max(0)
    return (vertices - (low + high) / 2) * (LONGEST_SIDE / (high - low).max())


def reverse(corners: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Reverses the order of the corners [F, 3, ...] of the chosen faces, bool [F]."""
    out = corners.copy()
    out[chosen] = out[chosen][:, ::-1]
    return out


def _referenced(faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices that faces use, ascending, and the faces in terms of them."""
    flags = np.zeros(count, bool)
    flags[faces] = True
    return np.flatnonzero(flags), (np.cumsum(flags) - 1)[faces]


def _weld(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Welded vertices in lexicographic order, the first vertex of each, and where every vertex went."""
    grid = np.round(vertices / (WELD * LONGEST_SIDE)).astype(np.int64)
    # One cell number instead of three coordinates: sorting those is ten times as fast. 10^6 a side fits 63 bits.
    x, y, z = (grid - grid.min(0)).T
    size = grid.max(0) - grid.min(0) + 1
    _, first, inverse = np.unique((x * size[1] + y) * size[2] + z, return_index=True, return_inverse=True)
    return vertices[first], first, inverse.reshape(-1)


def _first_of_each(faces: np.ndarray, count: int) -> np.ndarray:
    """Places of the first face on each set of three corners, ascending."""
    low, middle, high = np.sort(faces, axis=1).astype(np.int64).T
    if count < 2**21:
        return np.sort(np.unique((low * count + middle) * count + high, return_index=True)[1])
    return np.sort(np.unique(np.stack([low, middle, high], 1), axis=0, return_index=True)[1])


def _area_vectors(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a) / 2


def _with_area(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return distinct & (np.linalg.norm(_area_vectors(vertices, faces), axis=1) > 1e-14)


def components(faces: np.ndarray, count: int) -> np.ndarray:
    """Number of the connected part of each face, int32 [F], from 0; faces int [F, 3] of ``count`` vertices."""
    if not len(faces):
        return np.zeros(0, np.int32)
    rows, columns = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, dense = np.unique(labels[faces[:, 0]], return_inverse=True)
    return dense.astype(np.int32)


def inconsistent(faces: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Faces to reverse, bool [F], so that neighbours across an edge of exactly two faces agree.

    Within each patch of such neighbours the side that holds most of the area stays as it is.

    Args:
        faces: int64 [F, 3]; areas: float64 [F].
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    owner = np.tile(np.arange(len(faces)), 3)
    same = edges[:, 0] < edges[:, 1]
    low, high = edges.min(1), edges.max(1)
    order = np.argsort(low * (int(high.max(initial=0)) + 1) + high, kind="stable")
    low, high, owner, same = low[order], high[order], owner[order], same[order]
    new = np.ones(len(order), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    start = np.flatnonzero(new)
    pairs = start[np.diff(np.append(start, len(order))) == 2]
    a, b = owner[pairs], owner[pairs + 1]
    # Two consistent neighbours run along their edge in opposite directions.
    against = same[pairs] == same[pairs + 1]
    return _spread(len(faces), a, b, against, areas)


@njit(cache=True)
def _spread(count, a, b, against, areas):
    degree = np.zeros(count + 1, np.int64)
    for e in range(len(a)):
        degree[a[e] + 1] += 1
        degree[b[e] + 1] += 1
    for i in range(count):
        degree[i + 1] += degree[i]
    place = degree[:-1].copy()
    other, turned = np.empty(2 * len(a), np.int64), np.empty(2 * len(a), np.bool_)
    for e in range(len(a)):
        other[place[a[e]]], turned[place[a[e]]] = b[e], against[e]
        place[a[e]] += 1
        other[place[b[e]]], turned[place[b[e]]] = a[e], against[e]
        place[b[e]] += 1
    state = np.full(count, -1, np.int8)
    queue = np.empty(count, np.int64)
    for seed in range(count):
        if state[seed] >= 0:
            continue
        state[seed], queue[0], head, tail = 0, seed, 0, 1
        kept, flipped = 0.0, 0.0
        while head < tail:
            face = queue[head]
            head += 1
            if state[face]:
                flipped += areas[face]
            else:
                kept += areas[face]
            for p in range(degree[face], degree[face + 1]):
                if state[other[p]] < 0:
                    state[other[p]] = state[face] ^ turned[p]
                    queue[tail] = other[p]
                    tail += 1
        if flipped > kept:
            for i in range(tail):
                state[queue[i]] ^= 1
    return state == 1
