"""Points that training asks a shape about: on its surface, on its sharp edges, near it, around it.

Every function draws from the generator it is given and from nothing else, in an order that is part of its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maquette.errors import MaquetteError

NEAR_SIGMAS = (0.005, 0.05)  # of points around the surface, in the unit cube (Hunyuan3D-2.1)
SHARP_SIGMAS = (0.001, 0.003, 0.006, 0.01, 0.02, 0.04)  # of those around sharp edges
SHARP_DEGREES = 30.0
VOLUME_SIDE = 1.05


@dataclass(frozen=True)
class SurfaceSamples:
    """Points on the faces of a mesh.

    Attributes:
        points, normals: float32 [N, 3], normals of unit length.
        face: int32 [N], the face that each lies on.
        weights: float32 [N, 3], barycentric, of that face's corners; they sum to 1.
    """

    points: np.ndarray
    normals: np.ndarray
    face: np.ndarray
    weights: np.ndarray

    def chosen(self, numbers: np.ndarray) -> SurfaceSamples:
        """Some of them."""
        return SurfaceSamples(self.points[numbers], self.normals[numbers], self.face[numbers], self.weights[numbers])

    @classmethod
    def joined(cls, parts: Sequence[SurfaceSamples]) -> SurfaceSamples:
        """Those of several draws, one after the other."""
        rows = zip(*((part.points, part.normals, part.face, part.weights) for part in parts), strict=True)
        return cls(*(np.concatenate(row) for row in rows))


def surface_samples(vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> SurfaceSamples:
    """Points drawn evenly by area.

    Args:
        vertices: float [V, 3]; faces: int [F, 3]; count: N.

    Raises:
        MaquetteError: no face has any area.
    """
    corners = np.asarray(vertices, np.float64)[np.asarray(faces, np.int64)]
    face, weights, normals = draw(corners, count, rng)
    points = np.einsum("nc,ncd->nd", weights, corners[face])
    return SurfaceSamples(
        points.astype(np.float32), normals.astype(np.float32), face.astype(np.int32), weights.astype(np.float32)
    )


def draw(corners: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces int64 [N] chosen by area, barycentric weights float64 [N, 3] and unit normals float64 [N, 3].

    Args:
        corners: float64 [F, 3, 3].
    """
    scaled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(scaled, axis=1)
    total = np.cumsum(lengths)
    if not len(total) or not total[-1] > 0:
        raise MaquetteError("surface_samples: no face of the mesh has any area: give it at least one triangle")
    chosen = np.searchsorted(total, rng.random(count) * total[-1], side="right")
    chosen = np.minimum(chosen, np.flatnonzero(lengths)[-1])
    u, v = rng.random(count), rng.random(count)
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    return chosen, np.stack([1 - u - v, u, v], 1), scaled[chosen] / lengths[chosen][:, None]


def sharp_samples(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator, degrees: float = SHARP_DEGREES
) -> SurfaceSamples:
    """Points drawn evenly by length along sharp edges, with the normal between the two faces.

    An edge is sharp where its faces' normals are more than `degrees` apart, and where it borders one face or more
    than two. That is Dora's test (Chen et al. 2024); the one by vertex normals (vertex . face < .985) depends on how
    a surface is cut into triangles, and marks every corner of a coarse but smooth one. Where nothing is sharp,
    points of the whole surface stand in.

    Args:
        vertices: float [V, 3], welded: faces that should meet share their vertices; faces: int [F, 3], turned alike.

    Raises:
        MaquetteError: no face has any area.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    first, second, corner = sharp_edges(vertices, faces, degrees)
    a, b = vertices[faces[first, corner]], vertices[faces[first, (corner + 1) % 3]]
    total = np.cumsum(np.linalg.norm(b - a, axis=1))
    if not len(total) or not total[-1] > 0:
        return surface_samples(vertices, faces, count, rng)
    chosen = np.minimum(np.searchsorted(total, rng.random(count) * total[-1], side="right"), len(total) - 1)
    along = rng.random(count)
    weights = np.zeros((count, 3))
    rows = np.arange(count)
    weights[rows, corner[chosen]], weights[rows, (corner[chosen] + 1) % 3] = 1 - along, along
    points = a[chosen] + (b - a)[chosen] * along[:, None]
    unit = _unit_normals(vertices, faces)
    normals = unit[first[chosen]] + unit[second[chosen]]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-6, normals / np.maximum(length, 1e-6), unit[first[chosen]])
    return SurfaceSamples(
        points.astype(np.float32),
        normals.astype(np.float32),
        first[chosen].astype(np.int32),
        weights.astype(np.float32),
    )


def sharp_edges(
    vertices: np.ndarray, faces: np.ndarray, degrees: float = SHARP_DEGREES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sharp edges, each once: a face int64 [E], its neighbour (itself at a border), and the face's corner it starts at.

    Args:
        vertices: float64 [V, 3]; faces: int64 [F, 3].
    """
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)
    owner, corner = np.repeat(np.arange(len(faces)), 3), np.tile(np.arange(3), len(faces))
    key = ends.min(1) * len(vertices) + ends.max(1)
    order = np.argsort(key, kind="stable")
    start = np.flatnonzero(np.diff(key[order], prepend=-1))
    size = np.diff(np.append(start, len(order)))
    first, second = order[start], order[start + np.minimum(size, 2) - 1]
    unit = _unit_normals(vertices, faces)
    folded = (unit[owner[first]] * unit[owner[second]]).sum(1) < np.cos(np.radians(degrees))
    flat = (unit == 0).all(1)[owner[first]] | (unit == 0).all(1)[owner[second]]
    sharp = (size != 2) | (folded & ~flat)
    return owner[first[sharp]], owner[second[sharp]], corner[first[sharp]]


def _unit_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    scaled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-300)


def in_file_order(
    samples: SurfaceSamples, source_face: np.ndarray, turned: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The samples' faces and weights in terms of the file that the mesh was cleaned from.

    Args:
        source_face: int32 [F], turned: bool [F], of the sampled mesh (CleanMesh or Bodies).

    Returns:
        face int32 [N] of the file, weights float32 [N, 3] of its corners as the file orders them.
    """
    reverse = turned[samples.face]
    return source_face[samples.face], np.where(reverse[:, None], samples.weights[:, ::-1], samples.weights)


def near_points(
    points: np.ndarray, count: int, rng: np.random.Generator, sigmas: Sequence[float] = NEAR_SIGMAS
) -> np.ndarray:
    """Surface points moved by normal noise, float32 [count, 3], each sigma equally often, in no order.

    Args:
        points: float [N, 3], N >= 1, taken in turn and again from the first when they are fewer; sigmas: in the
            unit cube's units.
    """
    chosen = np.arange(count) % len(points)
    sigma = rng.permutation(np.resize(np.asarray(sigmas, np.float64), count))
    return (points[chosen] + rng.normal(size=(count, 3)) * sigma[:, None]).astype(np.float32)


def volume_points(count: int, rng: np.random.Generator, side: float = VOLUME_SIDE) -> np.ndarray:
    """Points float32 [count, 3], even in a cube of the given side about the origin."""
    return ((rng.random((count, 3)) - 0.5) * side).astype(np.float32)
