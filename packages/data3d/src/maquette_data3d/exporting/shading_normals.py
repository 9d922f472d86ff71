"""Normals that make rounded surfaces look round and keep hard edges hard."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from maquette.types import Mesh
from maquette_data3d.exporting.pieces import distinct


def corner_normals(mesh: Mesh, crease: float) -> np.ndarray | None:
    """float32 [F, 3, 3], unit; None at a crease of 0, where every face is flat.

    Faces that meet at an edge by less than `crease` degrees share a normal at its ends: the mean of the faces around
    the corner, weighted by their angles there. Vertices in one place count as one.
    """
    if crease <= 0:
        return None
    points = mesh.vertices.astype(np.float64)
    corners = points[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(across, axis=1, keepdims=True)
    flat = np.divide(across, area, out=np.zeros_like(across), where=area > 0)
    flat[area[:, 0] <= 0] = [0.0, 1.0, 0.0]
    group = _groups(mesh, flat, crease)
    weighted = _angles(corners)[..., None] * (flat * (area > 0))[:, None, :]
    total = np.stack([np.bincount(group, weighted[..., axis].reshape(-1)) for axis in range(3)], 1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    mean = np.divide(total, length, out=np.zeros_like(total), where=length > 1e-12)[group]
    of_face = np.repeat(flat, 3, axis=0)
    return np.where((mean != 0).any(1, keepdims=True), mean, of_face).reshape(-1, 3, 3).astype(np.float32)


def _groups(mesh: Mesh, flat: np.ndarray, crease: float) -> np.ndarray:
    """int [3F], corners that share a normal have one number."""
    _, place = distinct(list(mesh.vertices.T))
    faces = place[mesh.faces]
    start = np.arange(3 * len(faces))
    stop = start.reshape(-1, 3)[:, [1, 2, 0]].reshape(-1)
    ends = np.stack([faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)], 1)
    forward = ends[:, 0] < ends[:, 1]
    # Each edge of each face with the corners at its lower and at its higher end.
    low, high = np.where(forward, start, stop), np.where(forward, stop, start)
    ends.sort(axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    same = (np.diff(ends[order], axis=0) == 0).all(1)
    one, other = order[:-1][same], order[1:][same]
    smooth = (flat[one // 3] * flat[other // 3]).sum(1) >= np.cos(np.radians(min(crease, 180.0))) - 1e-9
    one, other = one[smooth], other[smooth]
    rows, columns = np.concatenate([low[one], high[one]]), np.concatenate([low[other], high[other]])
    joined = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(len(start), len(start)))
    return connected_components(joined, directed=False)[1]


def _angles(corners: np.ndarray) -> np.ndarray:
    """float64 [F, 3], of each triangle [F, 3, 3] at each corner."""
    ahead = np.roll(corners, -1, axis=1) - corners
    behind = np.roll(corners, 1, axis=1) - corners
    product = np.linalg.norm(ahead, axis=2) * np.linalg.norm(behind, axis=2)
    cosine = np.divide((ahead * behind).sum(2), product, out=np.ones_like(product), where=product > 0)
    return np.arccos(np.clip(cosine, -1.0, 1.0))
