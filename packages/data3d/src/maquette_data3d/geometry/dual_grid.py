"""Flexible dual grids: a surface as a point in each voxel it passes and the grid edges it crosses.

The idea is TRELLIS.2's O-Voxel (Xiang et al. 2025) on top of dual contouring (Ju et al. 2002): each crossed edge
stands for a quad between the points of the four voxels around it. No inside is needed, so open surfaces stay open
and hidden ones stay; a point minimises its squared distances to the planes and borders in its voxel, which keeps
sharp edges sharp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from maquette_kernels.dual_grid.functions import dual_grid_decode, dual_grid_encode


@dataclass(frozen=True)
class DualGrid:
    """A surface in a grid.

    Attributes:
        voxels: int32 [n, 3], cells that the surface passes, in lexicographic order [x, y, z].
        points: float32 [n, 3], one point in each, 0..1 along the voxel.
        edges: bool [n, 3], whether the surface crosses the edge that leaves the voxel's low corner along x, y, z.
        signs: bool [n, 3], whether it looks along the axis there (its normal's part along it is positive).
        resolution: cells along the unit cube.
    """

    voxels: np.ndarray
    points: np.ndarray
    edges: np.ndarray
    signs: np.ndarray
    resolution: int


def dual_grid(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> DualGrid:
    """Encodes a mesh, open or closed, by `maquette_kernels.ops.dual_grid_encode`, where the rules are.

    Args:
        vertices: float [V, 3] in the unit cube; faces: int [F, 3], neighbours share vertices.
        resolution: cells a side, at most 2048.

    Raises:
        MaquetteError: the resolution is out of range, or a vertex is not finite.
    """
    places, triangles = np.array(vertices, np.float64).reshape(-1, 3), np.array(faces, np.int64).reshape(-1, 3)
    found = dual_grid_encode(torch.from_numpy(places), torch.from_numpy(triangles), resolution)
    voxels, points, edges, signs = (tensor.numpy() for tensor in found)
    return DualGrid(voxels, points.astype(np.float32), edges, signs, resolution)


def dual_grid_mesh(grid: DualGrid) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a dual grid, two triangles a crossed edge; edges without all four voxels give none.

    Returns:
        vertices float32 [V, 3] in the unit cube, faces int32 [F, 3].
    """
    kinds = ((grid.voxels, np.int32), (grid.points, np.float64), (grid.edges, bool), (grid.signs, bool))
    arrays = (torch.from_numpy(np.array(array, kind)) for array, kind in kinds)
    vertices, faces, _ = dual_grid_decode(*arrays, resolution=grid.resolution)
    return vertices.numpy().astype(np.float32), faces.numpy()
