"""Closed surfaces of meshes that are not: the zero surface of their field, without what it encloses."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from maquette_data3d.geometry.fields import field_of
from maquette_data3d.geometry.repair import CleanMesh
from maquette_data3d.surface import extract

_BAND = 3.0  # voxels: past the cells that the surface passes through, values have no say


def watertight(mesh: CleanMesh, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """A closed, outward surface of a mesh: what is solid keeps its place, sheets become shells of 1.5 voxels.

    Every part is kept, also one thinner than a voxel; hollows that nothing leads into are filled, and what lies in
    them goes with them. Surfaces are off by a fraction of a voxel at sharp edges, as marching cubes cuts them.

    Args:
        mesh: as `clean` gives it.
        resolution: cells along the unit cube, a multiple of 4.

    Returns:
        vertices float32 [V, 3] in the unit cube, faces int32 [F, 3]; every edge has two faces.
    """
    grid = field_of(mesh, resolution).tsdf(resolution, _BAND / resolution)
    return extract(filled(grid))


def filled(grid: np.ndarray) -> np.ndarray:
    """A distance grid [R, R, R] whose cells outside but not connected to its border are inside."""
    # Diagonal neighbours across a face are connected for `extract` too.
    label, count = ndimage.label(grid >= 0, ndimage.generate_binary_structure(3, 2))
    open_air = np.zeros(count + 1, bool)
    for axis in range(3):
        sides = label.take((0, -1), axis)
        open_air[np.unique(sides)] = True
    open_air[0] = True
    return np.where(open_air[label], grid, -np.maximum(np.abs(grid), np.float32(1e-3)))
