"""The triangles of a stored sample, with colours, from whichever fields hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from maquette.types import Mesh
from maquette_data3d.surface import extract

if TYPE_CHECKING:
    from maquette_data3d.shards.reader import ShardReader


def sample_mesh(reader: ShardReader, number: int) -> tuple[Mesh, np.ndarray | None, str] | None:
    """The mesh of a sample in the unit cube, its corners' colours, and the name of the field it comes from.

    A stored mesh comes first, then the zero surface of the distance grid. Colours of corners are uint8 [F, 3, 3] or
    None; a mesh from a grid has colours of vertices instead.

    Returns:
        None where the sample stores neither, or nothing is inside.
    """
    fields = reader.fields
    if "mesh_vertices" in fields and "mesh_faces" in fields:
        mesh = Mesh(np.array(reader.array(number, "mesh_vertices")), np.array(reader.array(number, "mesh_faces")))
        colors = np.array(reader.array(number, "mesh_colors")) if "mesh_colors" in fields else None
        return mesh, colors, "mesh_vertices"
    if "tsdf" not in fields:
        return None
    vertices, faces = extract(np.asarray(reader.array(number, "tsdf"), np.float32)[0])
    if not len(faces):
        return None
    colors = vertex_colors(reader.array(number, "color"), vertices) if "color" in fields else None
    return Mesh(vertices, faces, colors), None, "tsdf"


def vertex_colors(grid: Any, vertices: np.ndarray) -> np.ndarray:
    """RGBA uint8 [V, 4] of points, each of its nearest cell of a grid uint8 [3, R, R, R]."""
    resolution = grid.shape[1]
    cells = np.clip(((vertices + 0.5) * resolution).astype(np.int64), 0, resolution - 1)
    colors = np.full((len(vertices), 4), 255, np.uint8)
    colors[:, :3] = np.asarray(grid)[:, cells[:, 0], cells[:, 1], cells[:, 2]].T
    return colors
