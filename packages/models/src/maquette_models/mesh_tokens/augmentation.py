"""Meshes in the middle of the unit cube, and other meshes made of them for training."""

from __future__ import annotations

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Mesh

LONGEST = 0.9  # the longest side of a shape's box, as the data builds have it


def normalised(mesh: Mesh) -> Mesh:
    """The mesh moved and scaled so that its box is centred and its longest side is 0.9.

    Raises:
        MaquetteError: it has no extent.
    """
    return place(mesh, *frame(mesh))


def frame(mesh: Mesh) -> tuple[np.ndarray, float]:
    """The centre [3] of the box of a mesh's faces and the scale that makes its longest side 0.9.

    Raises:
        MaquetteError: it has no extent.
    """
    used = mesh.vertices[mesh.faces].reshape(-1, 3).astype(np.float64)
    if not len(used) or not (extent := np.ptp(used, axis=0).max()) > 0:
        raise MaquetteError("a mesh without any extent cannot be normalised; check the mesh")
    return (used.min(axis=0) + used.max(axis=0)) / 2, float(LONGEST / extent)


def place(mesh: Mesh, centre: np.ndarray, scale: float) -> Mesh:
    """The mesh as `frame` wants it, without colours; vertices that no face uses stay within the cube."""
    moved = ((mesh.vertices.astype(np.float64) - centre) * scale).clip(-0.5, 0.5)
    return Mesh(moved.astype(np.float32), mesh.faces)


def varied(mesh: Mesh, rng: np.random.Generator, stretch: float, *, turn: bool, mirror: bool) -> Mesh:
    """A normalised mesh, stretched by up to a share of each axis, turned by quarters about the vertical, mirrored."""
    scales = 1 + stretch * rng.uniform(-1, 1, 3)
    quarters, flipped = rng.integers(4) if turn else 0, rng.random() < 0.5 and mirror
    vertices, faces = mesh.vertices * scales, mesh.faces
    x, y, z = vertices.T
    for _ in range(quarters):
        x, z = z, -x
    if flipped:
        x, faces = -x, faces[:, ::-1]
    return normalised(Mesh(np.stack([x, y, z], axis=1).astype(np.float32), faces))
