"""The points of a mesh that an encoder reads, for meshes that come without shards: conditions and editing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.types import Mesh
from maquette_models.surface_points import colored_points, surface_points
from maquette_models.voxset.surface_cloud import SurfaceCloud

SHARP_DEGREES = 30.0
"""The angle between two faces' normals from which the edge between them is sharp; also that of the shards."""


def mesh_cloud(mesh: Mesh, points: int = 4096, sharp: int = 1024, seed: int = 0) -> SurfaceCloud:
    """One row of surface and sharp points of a mesh in the unit cube; the same seed gives the same points.

    Colours are those of the vertices, gray where there are none.

    Raises:
        MaquetteError: the mesh has no area.
    """
    places, normals = surface_points(mesh, points, seed)
    _, colors = colored_points(mesh, points, seed)
    return SurfaceCloud(*(x[None] for x in (places, normals, colors, *sharp_points(mesh, sharp, seed))))


def sharp_points(mesh: Mesh, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points and normals, float32 [count,3] each, even along sharp edges; a normal is the mean of both faces'.

    An edge is sharp where its faces are more than `SHARP_DEGREES` apart and where it has one face or more than two.
    Where no edge is, points of the whole surface stand in, as they do in shards.
    """
    ends, normals = sharp_edges(mesh)
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    total = np.cumsum(lengths)
    if not len(total) or not total[-1] > 0:
        return surface_points(mesh, count, seed + 1)
    rng = np.random.default_rng(seed)
    picked = np.searchsorted(total, rng.random(count) * total[-1], side="right").clip(max=len(total) - 1)
    along = rng.random((count, 1))
    points = ends[picked, 0] * (1 - along) + ends[picked, 1] * along
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(normals[picked].astype(np.float32))


def sharp_edges(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends [E,2,3] and unit normals [E,3] of sharp edges; vertices in one place count as one."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    scaled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(scaled, axis=1)
    solid = area > 0
    unit = scaled[solid] / area[solid, None]
    _, welded = np.unique(mesh.vertices, axis=0, return_inverse=True)
    faces = welded.reshape(-1)[mesh.faces[solid]]
    pairs = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    owner, place = np.repeat(np.arange(len(faces)), 3), corners[solid][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2, 3)
    _, start, edge, size = np.unique(pairs, axis=0, return_index=True, return_inverse=True, return_counts=True)
    edge = edge.reshape(-1)
    last = np.empty(len(start), np.int64)
    last[edge] = np.arange(len(edge))  # the last face of each edge, where `start` has the first
    one, other = unit[owner[start]], unit[owner[last]]
    sharp = (size != 2) | (np.sum(one * other, axis=1) < np.cos(np.radians(SHARP_DEGREES)))
    between = one + other
    length = np.linalg.norm(between, axis=1, keepdims=True)
    normals = np.where(length > 1e-6, between / np.maximum(length, 1e-6), one)
    return place[start][sharp], normals[sharp]
