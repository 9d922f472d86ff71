"""Tangent frames as MikkTSpace makes them (Mikkelsen 2008), so that baked normals look the same in every viewer."""

from __future__ import annotations

import numpy as np


def corner_tangents(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Tangent and sign of each corner, float64 [F, 3, 4]; the bitangent is ``sign * cross(normal, tangent)``.

    Tangents point where u grows and bitangents where v shrinks, glTF's v running downwards. Corners with the same
    place, normal and texture coordinate share the mean of their faces' tangents, weighted by their angles; faces that
    the texture shows mirrored do not mix with the others.

    Args:
        vertices: float [V, 3]; faces: int [F, 3]; uv: float32 [F, 3, 2]; normals: float32 [F, 3, 3], unit.
    """
    points, uv = vertices[faces].astype(np.float64), uv.astype(np.float64)
    sides, steps = points[:, 1:] - points[:, :1], uv[:, 1:] - uv[:, :1]
    area = steps[:, 0, 0] * steps[:, 1, 1] - steps[:, 0, 1] * steps[:, 1, 0]
    along = sides[:, 0] * steps[:, 1, 1, None] - sides[:, 1] * steps[:, 0, 1, None]
    mirrored = area > 0  # v runs downwards: a face seen from its front goes round the other way in the texture
    along = np.where((area >= 0)[:, None], along, -along)
    flat = _unit(along[:, None] - (along[:, None] * normals).sum(-1, keepdims=True) * normals)
    keys = np.concatenate(
        [points, normals, uv, np.broadcast_to(mirrored[:, None, None], (len(uv), 3, 1)).astype(np.float64)], -1
    ).reshape(3 * len(uv), -1)
    _, group = np.unique(keys + 0.0, axis=0, return_inverse=True)
    weighted = (flat * _angles(points)[..., None]).reshape(-1, 3)
    total = np.stack([np.bincount(group.reshape(-1), column) for column in weighted.T], 1)[group.reshape(-1)]
    mean = _unit(total.reshape(flat.shape))
    lost = (mean == 0).all(-1)
    mean[lost] = _any_across(normals[lost].astype(np.float64))
    sign = np.where(mirrored, -1.0, 1.0)
    return np.concatenate([mean, np.broadcast_to(sign[:, None, None], (len(uv), 3, 1))], -1)


def frames(tangents: np.ndarray, normals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Axes [P, 3, 3] (columns tangent, bitangent, normal) at points of faces, not unit, as shaders interpolate them.

    Args:
        tangents: [P, 3, 4] and normals [P, 3, 3] of each point's face; weights: [P, 3], barycentric.
    """
    tangent = np.einsum("pk,pkc->pc", weights, tangents[..., :3])
    normal = np.einsum("pk,pkc->pc", weights, normals)
    bitangent = tangents[:, 0, 3:] * np.cross(normal, tangent)
    return np.stack([tangent, bitangent, normal], -1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors, np.float64), where=length > 1e-20)


def _angles(corners: np.ndarray) -> np.ndarray:
    """Angle of each triangle [F, 3, 3] at each corner, [F, 3]."""
    ahead, behind = _unit(np.roll(corners, -1, 1) - corners), _unit(np.roll(corners, 1, 1) - corners)
    return np.arccos((ahead * behind).sum(-1).clip(-1, 1))


def _any_across(normals: np.ndarray) -> np.ndarray:
    """A unit vector [N, 3] at right angles to each normal: for faces without area in the texture."""
    least = np.eye(3)[np.abs(normals).argmin(-1)]
    return _unit(np.cross(normals, least))
