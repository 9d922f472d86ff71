"""Flexible dual grids: a surface as a point in each voxel it passes and the grid edges it crosses.

The idea is TRELLIS.2's O-Voxel (Xiang et al. 2025) on top of dual contouring (Ju et al. 2002): each crossed edge
stands for a quad between the points of the four voxels around it. No inside is needed, so open surfaces stay open
and hidden ones stay; a point minimises its squared distances to the planes and borders in its voxel, which keeps
sharp edges sharp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette_data3d.geometry import dual_points
from maquette_data3d.geometry.sampling import sharp_edges
from maquette_data3d.geometry.voxels import sparse_voxels

# Voxels by which the mesh is moved: no face of a model lies exactly in a plane of the grid, between two voxels.
_SHIFT = np.array([1.1e-6, 1.7e-6, 2.3e-6])


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
    """Encodes a mesh, open or closed.

    Of two walls that cross the same grid edge one quad is left: what is thinner than a voxel becomes a sheet, and
    where a closed surface only grazes an edge, crossing it there and back, the quad hangs on it as a flap.

    Args:
        vertices: float [V, 3] in the unit cube; faces: int [F, 3], neighbours share vertices.
        resolution: cells a side, at most 1024.

    Raises:
        MaquetteError: the resolution is out of range.
    """
    faces = np.asarray(faces, np.int64)
    vertices = np.asarray(vertices, np.float64) + _SHIFT / max(resolution, 1)
    voxels = sparse_voxels(vertices, faces, resolution)
    heights, rows = np.ascontiguousarray(voxels[:, 2]), dual_points.rows_of(voxels, resolution)
    corners = np.ascontiguousarray((vertices[faces] + 0.5) * resolution)
    quadrics = dual_points.quadrics(corners, heights, rows)
    surplus, crossed = dual_points.crossings(corners, heights, rows, quadrics)
    first, second, corner = sharp_edges(vertices, faces, 180.0)
    border = first == second
    ends = np.stack([corner, (corner + 1) % 3], 1)[border]
    segments = np.ascontiguousarray(corners[first[border][:, None], ends])
    dual_points.add_borders(segments, heights, rows, quadrics)
    points = dual_points.solve(quadrics)
    return DualGrid(voxels, points.astype(np.float32), crossed, crossed & (surplus >= 0), resolution)


def _keys(voxels: np.ndarray, resolution: int) -> np.ndarray:
    x, y, z = voxels.astype(np.int64).T
    return (x * resolution + y) * resolution + z


def dual_grid_mesh(grid: DualGrid) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a dual grid, two triangles a crossed edge; edges without all four voxels give none.

    Returns:
        vertices float32 [V, 3] in the unit cube, faces int32 [F, 3].
    """
    keys, size = _keys(grid.voxels, grid.resolution), grid.resolution
    strides = (size * size, size, 1)
    quads = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        at = np.flatnonzero(grid.edges[:, axis] & (grid.voxels[:, u] > 0) & (grid.voxels[:, v] > 0))
        around = np.stack([keys[at] - s for s in (strides[u] + strides[v], strides[v], 0, strides[u])], 1)
        place = np.minimum(np.searchsorted(keys, around), max(len(keys) - 1, 0))
        whole = (keys[place] == around).all(1)
        quad, looks = place[whole], grid.signs[at[whole], axis]
        quads.append(np.where(looks[:, None], quad, quad[:, ::-1]))
    quad = np.concatenate(quads)
    used, quad = np.unique(quad, return_inverse=True)
    vertices = (grid.voxels[used] + grid.points[used].astype(np.float64)) / size - 0.5
    return vertices.astype(np.float32), _split(vertices, quad.reshape(-1, 4)).astype(np.int32)


def _split(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Two triangles a quad, along the diagonal over which it bends less."""

    def bend(a: int, b: int, c: int, d: int) -> np.ndarray:
        p, q, r, s = (vertices[quads[:, i]] for i in (a, b, c, d))
        one, two = np.cross(q - p, r - p), np.cross(r - p, s - p)
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        return (one * two).sum(1) / np.maximum(lengths, 1e-300)

    other = bend(1, 2, 3, 0) > bend(0, 1, 2, 3) + 1e-9
    rolled = np.where(other[:, None], np.roll(quads, -1, axis=1), quads)
    return rolled[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
