"""Meshes on an integer grid: the form in which a token sequence holds a mesh exactly.

A corner is one integer, its *code*: `(y * levels + z) * levels + x`. Codes thereby rise with the height, which is the
order in which sequences tell of a mesh.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError
from maquette.types import Mesh

Codes = NDArray[np.int64]


def quantise(mesh: Mesh, levels: int) -> Codes:
    """The faces of a mesh in the unit cube on a grid of `levels` cells a side, as codes int64 [F, 3].

    Each face begins with its smallest corner, its orientation kept; faces are sorted and differ from each other. Faces
    that have no area on the grid are left out.

    Raises:
        MaquetteError: a vertex outside the unit cube.
    """
    if len(mesh.vertices) and np.abs(mesh.vertices).max() > 0.5 + 1e-6:
        raise MaquetteError("cannot quantise a mesh that leaves the unit cube [-0.5, 0.5]^3; move and scale it first")
    cells = np.floor((mesh.vertices.astype(np.float64) + 0.5) * levels).astype(np.int64).clip(0, levels - 1)
    return canonical(encode_places(cells, levels)[mesh.faces], levels)


def restore(faces: Codes, levels: int) -> Mesh:
    """The mesh of faces [F, 3] of codes, its vertices in the middle of their cells and in the order of their codes."""
    codes, numbers = np.unique(faces, return_inverse=True)
    vertices = (decode_places(codes, levels) + 0.5) / levels - 0.5
    return Mesh(vertices.astype(np.float32), numbers.reshape(-1, 3).astype(np.int32))


def canonical(faces: Codes, levels: int) -> Codes:
    """Faces [F, 3] with an area, each rotated to begin with its smallest corner, sorted, each once."""
    faces = faces.reshape(-1, 3)[~without_area(faces.reshape(-1, 3), levels)]
    first = faces.argmin(axis=1)
    turned = np.take_along_axis(faces, (first[:, None] + np.arange(3)) % 3, axis=1)
    return np.unique(turned, axis=0).reshape(-1, 3)


def without_area(faces: Codes, levels: int) -> NDArray[np.bool_]:
    """Whether the corners of faces [F, 3] lie on one line, bool [F]; exact, in integers."""
    corners = decode_places(faces, levels)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return ~normals.any(axis=1)


def encode_places(places: NDArray[np.int64], levels: int) -> Codes:
    """Codes [...] of grid places [..., 3] in the order x, y, z."""
    x, y, z = places[..., 0], places[..., 1], places[..., 2]
    return (y * levels + z) * levels + x


def decode_places(codes: Codes, levels: int) -> NDArray[np.int64]:
    """Grid places [..., 3] of codes [...]."""
    rest, x = np.divmod(codes, levels)
    y, z = np.divmod(rest, levels)
    return np.stack([x, y, z], axis=-1)
