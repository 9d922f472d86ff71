"""Closed surfaces of any mesh, on a grid, with walls of a least thickness."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_data3d.geometry.fields import field_of
from maquette_data3d.geometry.repair import clean
from maquette_data3d.geometry.watertight import filled
from maquette_data3d.surface import extract

_BAND = 3.0  # voxels


def closed_surface(
    mesh: Mesh, resolution: int, thin: np.ndarray | None = None, radius: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The outer surface of a mesh, closed; sheets become shells of 1.5 voxels, solids unite.

    Args:
        mesh: any; its holes are bridged where that has a sense.
        resolution: cells along the unit cube that the mesh is scaled into, a multiple of 4.
        thin: points float [P, 3] in the middle of thin walls, in the mesh's unit; balls of ``radius`` are added there.

    Returns:
        vertices float32 [V, 3] in the mesh's place and unit; faces int32 [F, 3], outwards, every edge with two.

    Raises:
        MaquetteError: no face has any area, or nothing is left on the grid.
    """
    resolution = -(-resolution // 4) * 4
    black = np.broadcast_to(np.zeros(1, np.uint8), (len(mesh.faces), 3, 3))
    found = clean(mesh.vertices.astype(np.float64), mesh.faces, black)
    if not len(found.faces):
        raise MaquetteError("no face of the mesh has any area")
    grid = filled(field_of(found, resolution).tsdf(resolution, _BAND / resolution))
    if thin is not None and len(thin):
        grid = np.minimum(grid, _balls(thin * found.scale + found.offset, radius * found.scale, resolution))
    vertices, faces = extract(grid)
    if not len(faces):
        raise MaquetteError(f"nothing is left of the mesh on a grid of {resolution}: raise the resolution")
    return ((vertices.astype(np.float64) - found.offset) / found.scale).astype(np.float32), faces


def _balls(middles: np.ndarray, radius: float, resolution: int) -> np.ndarray:
    """Truncated distances float32 [R, R, R] to balls, in the units of ``tsdf``: 1 is three voxels."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    truncation = _BAND / resolution
    out = np.ones((resolution,) * 3, np.float32)
    tree = cKDTree(middles)
    reach = radius + truncation
    near = np.zeros(out.shape, bool)
    low = ((middles - reach + 0.5) * resolution - 0.5).astype(int).clip(0, resolution - 1)
    high = ((middles + reach + 0.5) * resolution + 0.5).astype(int).clip(0, resolution - 1)
    for first, last in zip(low, high, strict=True):
        near[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = True
    cells = np.stack(np.nonzero(near), 1)
    away, _ = tree.query(axis[cells], distance_upper_bound=reach + truncation)
    out[near] = ((away - radius) / truncation).clip(-1, 1)
    return out
