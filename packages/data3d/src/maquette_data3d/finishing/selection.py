"""Some faces of a mesh, in another order or turned, with what they carry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from maquette.types import Mesh, Skin


def selected(mesh: Mesh, face: np.ndarray, turned: np.ndarray | None = None) -> Mesh:
    """The mesh with these faces of it, and the vertices that they use.

    Args:
        face: int [G], numbers of faces; turned: bool [G], which of them look the other way afterwards.
    """
    faces, uv = mesh.faces[face], None if mesh.uv is None else mesh.uv[face]
    if turned is not None:
        faces = np.where(turned[:, None], faces[:, ::-1], faces)
        uv = None if uv is None else np.where(turned[:, None, None], uv[:, ::-1], uv)
    material = None if mesh.material is None else mesh.material[face]
    part = None if mesh.part is None else mesh.part[face]
    return used_only(replace(mesh, faces=faces, uv=uv, material=material, part=part))


def used_only(mesh: Mesh) -> Mesh:
    """The mesh without the vertices that no face uses."""
    used, index = np.unique(mesh.faces, return_inverse=True)
    if len(used) == len(mesh.vertices):
        return mesh
    return with_vertices(mesh, used, index.reshape(-1, 3))


def with_vertices(mesh: Mesh, vertex: np.ndarray, faces: np.ndarray) -> Mesh:
    """The mesh whose vertices are those numbered ``vertex``, int [W], and whose faces [F, 3] speak of these."""
    skin = mesh.skin
    return replace(
        mesh,
        vertices=mesh.vertices[vertex],
        faces=faces,
        colors=None if mesh.colors is None else mesh.colors[vertex],
        skin=None if skin is None else Skin(skin.skeleton, skin.joints[vertex], skin.weights[vertex]),
    )


def welded(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 [W, 3] with those in one place merged, and the faces int [F, 3] in terms of them."""
    vertices, place = np.unique(mesh.vertices + np.float32(0), axis=0, return_inverse=True)  # -0 becomes 0
    return vertices, place.reshape(-1)[mesh.faces]


def areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area of each face, float64 [F]."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """What a closed surface encloses; negative where it looks inwards."""
    corners = vertices[faces].astype(np.float64)
    corners = corners - corners.mean((0, 1))
    return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)
