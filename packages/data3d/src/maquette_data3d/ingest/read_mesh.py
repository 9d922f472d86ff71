"""Reading one mesh file into maquette's own type, in this process: for files that one trusts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_data3d.geometry.repair import normalise
from maquette_data3d.ingest import declared
from maquette_data3d.ingest.reading import ReadLimits, read


def read_mesh(path: str | Path, normalised: bool = True, largest_faces: int = 2_000_000) -> Mesh:
    """Reads GLB, glTF, OBJ, PLY, STL, OFF, 3MF, FBX, or a ZIP with one of them in it; y is up afterwards.

    Args:
        path: the file.
        normalised: centre it and scale its longest side to 0.9; otherwise its own units stay.
        largest_faces: refuse more than this.

    Returns:
        A mesh with a vertex a corner where colours differ between faces, vertices as in the file otherwise.

    Raises:
        MaquetteError: the file is missing, of another format, or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise MaquetteError(f"mesh file '{path}' does not exist")
    if path.suffix.lower() not in declared.SUFFIXES:
        raise MaquetteError(f"mesh file '{path}' is not one of {', '.join(declared.SUFFIXES)}")
    try:
        scene = read(path, ReadLimits(largest_faces=largest_faces))
    except MaquetteError as error:
        raise MaquetteError(f"mesh file '{path}' cannot be used: {error}") from None
    used, index = np.unique(scene.faces, return_inverse=True)
    vertices, faces = scene.vertices[used], index.reshape(-1, 3)
    if normalised:
        vertices = normalise(vertices)
    corners = scene.corner_colors.reshape(-1, 3)
    colors = np.zeros((len(vertices), 3), np.uint8)
    colors[faces.reshape(-1)] = corners
    if not np.array_equal(colors[faces.reshape(-1)], corners):
        vertices, faces, colors = vertices[faces.reshape(-1)], np.arange(faces.size).reshape(-1, 3), corners
    opaque = np.full((len(colors), 1), 255, np.uint8)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32), np.concatenate([colors, opaque], 1))
