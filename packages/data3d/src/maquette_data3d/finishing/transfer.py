"""Bringing what a mesh carries over to another mesh of the same surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from maquette.types import Mesh, Skin

_INSET = 0.03  # how far corners are moved to their face's middle before they are looked up: seams lie on edges
_ALIKE = 24  # levels of 255 by which colours of corners around a vertex may differ and still become one


@dataclass(frozen=True)
class Nearest:
    """Points of a mesh's surface: distance float32 [P], face int64 [P], barycentric weights float32 [P, 3]."""

    distance: np.ndarray
    face: np.ndarray
    weights: np.ndarray

    def mix(self, corners: np.ndarray) -> np.ndarray:
        """Values [F, 3, C] of the mesh's corners at the points, float64 [P, C]."""
        return np.einsum("pk,pkc->pc", self.weights.astype(np.float64), corners[self.face])


def nearest(mesh: Mesh, points: np.ndarray) -> Nearest:
    """The point of a mesh's surface nearest to each point [P, 3]."""
    import torch

    from maquette_kernels.ops import closest_on_mesh

    given = (np.array(points, np.float32), np.array(mesh.vertices), np.array(mesh.faces))  # torch wants them writable
    distance, face, weights = closest_on_mesh(*map(torch.from_numpy, given))
    return Nearest(distance.numpy(), face.numpy().astype(np.int64), weights.numpy())


def transfer(source: Mesh, vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """A mesh of other triangles with the materials, texture coordinates, colours, parts and skin of the source.

    Each face takes the material and the part of the source's nearest face, and its texture coordinates from one chart,
    continued past its border where the face reaches over it. A vertex is doubled where its faces' colours differ.

    Args:
        vertices: float [V, 3], about on the source's surface; faces: int [F, 3].
    """
    corners = vertices[faces]
    middle = corners.mean(1)
    at_middle = nearest(source, middle)
    inset = corners + _INSET * (middle[:, None] - corners)
    at_corner = nearest(source, inset.reshape(-1, 3))
    mesh = Mesh(vertices, faces, unit_m=source.unit_m)
    if source.uv is not None:
        mesh = replace(mesh, uv=_uv(source, corners, at_middle, at_corner))
    if source.material is not None:
        mesh = replace(mesh, material=source.material[at_middle.face], materials=source.materials, images=source.images)
    if source.part is not None:
        mesh = replace(mesh, part=source.part[at_middle.face], part_names=source.part_names)
    if source.colors is not None:
        colors = at_corner.mix(source.colors[source.faces].astype(np.float64)).reshape(-1, 3, 4)
        mesh = _colored(mesh, colors)
    if source.skin is not None:
        mesh = replace(mesh, skin=_skin(source, source.skin, nearest(source, mesh.vertices)))
    return mesh


def patches(mesh: Mesh) -> np.ndarray:
    """Label of each face, int64 [F]: faces share it where texture coordinates, colours, material and part go on."""
    columns = [mesh.vertices[mesh.faces].reshape(-1, 3)]
    if mesh.uv is not None:
        columns.append(mesh.uv.reshape(-1, 2))
    if mesh.colors is not None:
        columns.append(mesh.colors[mesh.faces].reshape(-1, 4))
    for label in (mesh.material, mesh.part):
        if label is not None:
            columns.append(np.repeat(label, 3)[:, None])
    keys = np.concatenate([column.astype(np.float64) for column in columns], 1) + 0.0
    _, corner = np.unique(keys, axis=0, return_inverse=True)
    face = np.repeat(np.arange(len(mesh.faces)), 3)
    size = len(mesh.faces) + int(corner.max(initial=0)) + 1
    graph = coo_matrix((np.ones(len(face), bool), (face, len(mesh.faces) + corner.reshape(-1))), shape=(size, size))
    return connected_components(graph, directed=False)[1][: len(mesh.faces)].astype(np.int64)


def _uv(source: Mesh, corners: np.ndarray, at_middle: Nearest, at_corner: Nearest) -> np.ndarray:
    """Texture coordinates float32 [F, 3, 2] of the corners [F, 3, 3]."""
    assert source.uv is not None
    chart = patches(Mesh(source.vertices, source.faces, uv=source.uv))
    found = at_corner.mix(source.uv.astype(np.float64)).reshape(-1, 3, 2)
    foreign = chart[at_corner.face].reshape(-1, 3) != chart[at_middle.face][:, None]
    away = at_corner.distance.reshape(-1, 3) > np.linalg.norm(np.ptp(corners, axis=1), axis=1)[:, None]
    straddles = (foreign | away).any(1)
    if straddles.any():
        found[straddles] = _continued(source, corners[straddles], at_middle.face[straddles])
    return found.astype(np.float32)


def _continued(source: Mesh, corners: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Texture coordinates [N, 3, 2] that the plane of a source face gives to the corners [N, 3, 3] of another."""
    assert source.uv is not None
    triangle = source.vertices[source.faces[face]].astype(np.float64)
    sides = np.stack([triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]], -1)  # [N, 3, 2]
    share = np.linalg.pinv(sides, rcond=1e-6) @ np.swapaxes(corners - triangle[:, :1], 1, 2)  # [N, 2, 3]
    uv = source.uv[face].astype(np.float64)
    steps = np.stack([uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]], 1)  # [N, 2, 2]
    # At most half a face past the source's own: farther, another chart would show.
    return uv[:, :1] + np.einsum("nsc,nsd->ncd", share.clip(-0.5, 1.5), steps)


def _colored(mesh: Mesh, colors: np.ndarray) -> Mesh:
    """The mesh with colours of corners [F, 3, 4]; vertices whose corners differ are doubled."""
    count, place = len(mesh.vertices), mesh.faces.reshape(-1)
    flat = colors.reshape(-1, 4)
    total = np.stack([np.bincount(place, flat[:, c], count) for c in range(4)], 1)
    mean = (total / np.maximum(np.bincount(place, minlength=count), 1)[:, None])[place]
    apart = np.bincount(place, np.abs(flat - mean).max(1) > _ALIKE, count) > 0
    level = np.round(np.where(apart[place][:, None], np.round(flat / 8) * 8, mean)).clip(0, 255).astype(np.int64)
    _, first, index = np.unique(
        np.concatenate([place[:, None], level], 1), axis=0, return_index=True, return_inverse=True
    )
    return replace(
        mesh,
        vertices=mesh.vertices[place[first]],
        faces=index.reshape(-1, 3),
        colors=level[first].astype(np.uint8),
    )


def _skin(source: Mesh, skin: Skin, at: Nearest) -> Skin:
    """Weights of the nearest point of the surface: as many joints a vertex as before, the strongest."""
    corners = source.faces[at.face]  # [P, 3]
    joints = skin.joints[corners].reshape(len(corners), -1)
    weights = (skin.weights[corners] * at.weights[..., None]).reshape(len(corners), -1).astype(np.float64)
    whole = np.zeros((len(corners), len(skin.skeleton.names)))
    np.add.at(whole, (np.arange(len(corners))[:, None], joints), weights)
    kept = min(skin.joints.shape[1], whole.shape[1])
    order = np.argsort(-whole, axis=1, kind="stable")[:, :kept]
    strongest = np.take_along_axis(whole, order, 1)
    total = strongest.sum(1, keepdims=True)
    strongest = np.divide(strongest, total, out=np.zeros_like(strongest), where=total > 0)
    return Skin(skin.skeleton, order.astype(np.int32), strongest.astype(np.float32))
