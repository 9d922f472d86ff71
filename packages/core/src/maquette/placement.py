"""Where a mesh stands, and how large: moves all that is in its space together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maquette.types import Mesh, Skeleton

LONGEST_SIDE = 0.9
"""Of a mesh's bounding box, where models see it in the unit cube."""


def moved(mesh: Mesh, scale: float, offset: NDArray[np.float64]) -> Mesh:
    """A mesh whose points, joints and unit are what ``point * scale + offset`` makes of them.

    Args:
        scale: above 0; the unit shrinks as the numbers grow, so that the thing stays as large as it was.
        offset: float [3].
    """
    vertices = mesh.vertices.astype(np.float64) * scale + offset
    skin = mesh.skin
    if skin is not None:
        rest = skin.skeleton.rest.copy()
        rest[:, :3, 3] = rest[:, :3, 3] * scale + offset
        skin = replace(skin, skeleton=Skeleton(skin.skeleton.names, skin.skeleton.parents, rest))
    unit_m = None if mesh.unit_m is None else mesh.unit_m / scale
    return replace(mesh, vertices=vertices.astype(np.float32), skin=skin, unit_m=unit_m)


def into_unit_cube(mesh: Mesh) -> tuple[float, NDArray[np.float64]]:
    """Scale and offset that centre a mesh's used vertices, the longest side of their box at .9."""
    used = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    low, high = used.min(0), used.max(0)
    scale = LONGEST_SIDE / max(float((high - low).max()), 1e-30)
    return scale, -(low + high) / 2 * scale


def in_unit_cube(mesh: Mesh) -> Mesh:
    """The mesh centred at the origin, the longest side of its box .9."""
    return moved(mesh, *into_unit_cube(mesh))
