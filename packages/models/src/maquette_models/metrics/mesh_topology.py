"""How the faces of a mesh hang together: closed, manifold, in how many pieces, with how many handles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from maquette.types import Mesh


@dataclass(frozen=True)
class Topology:
    """Of a mesh whose vertices in one place are one vertex.

    Attributes:
        closed: every edge belongs to exactly two faces that run along it in opposite directions.
        manifold: no edge belongs to more than two faces, and the faces around each vertex are one fan.
        components: pieces, by shared vertices.
        border_edges: edges of one face only.
        genus: handles of all pieces together, None where the mesh is not closed and manifold.
    """

    closed: bool
    manifold: bool
    components: int
    border_edges: int
    genus: int | None


def topology(mesh: Mesh) -> Topology:
    """The topology of a mesh with at least one face that has an area."""
    faces = welded(mesh)[1]
    count = int(faces.max()) + 1
    directed = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    keys = directed.min(axis=1) * count + directed.max(axis=1)
    edge, uses = np.unique(keys, return_inverse=True, return_counts=True)[1:]
    closed = _closed(directed, count)
    manifold = bool((uses <= 2).all()) and _fans(faces, edge) == len(np.unique(faces))
    components = _pieces(faces)
    euler = len(np.unique(faces)) - len(uses) + len(faces)
    genus = components - euler // 2 if closed and manifold else None
    return Topology(closed, manifold, components, int((uses == 1).sum()), genus)


def welded(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices [V,3] and faces [F,3] with vertices in one place merged, and without faces that come to have no area."""
    vertices, number = np.unique(mesh.vertices, axis=0, return_inverse=True)
    faces = number.reshape(-1)[mesh.faces]
    whole = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    return vertices.astype(np.float64), faces[whole].astype(np.int64)


def is_closed(mesh: Mesh) -> bool:
    """Whether every edge belongs to exactly two faces that run along it in opposite directions."""
    return _closed(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64), len(mesh.vertices))


def _closed(directed: NDArray[np.int64], count: int) -> bool:
    key = directed[:, 0] * count + directed[:, 1]
    back = directed[:, 1] * count + directed[:, 0]
    return len(np.unique(key)) == len(key) and np.array_equal(np.sort(key), np.sort(back))


def _pieces(faces: NDArray[np.int64]) -> int:
    used, place = np.unique(faces, return_inverse=True)
    place = place.reshape(-1, 3)
    return _components(len(used), place[:, [0, 1]].ravel(), place[:, [1, 2]].ravel())


def _fans(faces: NDArray[np.int64], edge: NDArray[np.int64]) -> int:
    """Into how many fans the corners of all faces fall, where two corners at one vertex are neighbours across an edge.

    Args:
        faces: [F,3].
        edge: the number of the edge from each corner to the next, [3F].
    """
    corner = np.arange(faces.size).reshape(-1, 3)
    ends = np.stack([corner, np.roll(corner, -1, axis=1)], axis=-1).reshape(-1, 2)
    vertex = faces.reshape(-1)[ends]
    ends = np.where((vertex[:, 0] > vertex[:, 1])[:, None], ends[:, ::-1], ends)  # the lower vertex first
    order = np.argsort(edge, kind="stable")
    same = edge[order][1:] == edge[order][:-1]
    one, other = ends[order][:-1][same], ends[order][1:][same]
    return _components(faces.size, one.ravel(), other.ravel())


def _components(count: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    links = coo_array((np.ones(len(one), bool), (one, other)), (count, count))
    return int(connected_components(links, directed=False)[0])
