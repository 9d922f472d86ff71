"""Meshes with texture coordinates and known paint, for tests of texturing."""

from __future__ import annotations

import numpy as np
import torch

from maquette.types import Mesh
from maquette_models.texturing.view_atlas import atlas_of, painted
from maquette_models.texturing.view_maps import corner_normals


def box(low, high):
    """A box of 12 faces, each side a square of a 4 x 2 atlas with room between."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    vertices, faces, uv = [], [], []
    for axis in range(3):
        for upper in (0, 1):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            corners = np.zeros((4, 3))
            corners[:, axis] = (low, high)[upper][axis]
            corners[:, u] = np.array([low, high, high, low])[:, u]
            corners[:, v] = np.array([low, low, high, high])[:, v]
            square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [0.2, 0.4] + [0.25 * axis + 0.025, 0.5 * upper + 0.05]
            order = [[0, 1, 2], [0, 2, 3]] if upper else [[0, 2, 1], [0, 3, 2]]
            faces += [[len(vertices) + i for i in face] for face in order]
            uv += [square[face] for face in order]
            vertices += list(corners)
    return Mesh(np.array(vertices), np.array(faces), uv=np.array(uv))


def globe(radius=0.4, rows=16, columns=32):
    """A sphere with longitude and latitude as texture coordinates, y up."""
    down = np.linspace(0, np.pi, rows + 1)
    across = np.linspace(0, 2 * np.pi, columns + 1)
    theta, phi = np.meshgrid(down, across, indexing="ij")
    points = radius * np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1)
    uv = np.stack([phi / (2 * np.pi), theta / np.pi], -1).reshape(-1, 2)
    corner = np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)
    a, b, c, d = corner, corner + 1, corner + columns + 1, corner + columns + 2
    upper = np.stack([a, c, b], -1)[1:].reshape(-1, 3)
    lower = np.stack([b, c, d], -1)[:-1].reshape(-1, 3)
    faces = np.concatenate([upper, lower])
    return Mesh(points.reshape(-1, 3), faces, uv=uv[faces])


def paint_at(positions):
    """Smooth base colour, metallic and roughness [P,5] in [.1,.9] of places [P,3]."""
    waves = torch.tensor([[7.0, 3, -5, 2, 9], [-4, 8, 3, 6, -2], [5, -6, 7, -8, 4]])
    return 0.5 + 0.4 * torch.sin(positions @ waves + torch.arange(5.0))


def textured(mesh, size=256):
    """The mesh painted by `paint_at`, and its atlas."""
    atlas = atlas_of(mesh, corner_normals(mesh), size)
    return painted(mesh, atlas, paint_at(atlas.points.positions)), atlas
