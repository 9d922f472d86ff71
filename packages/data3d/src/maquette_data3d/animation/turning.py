"""Rotations float64 [..., 3, 3] that a pose is made of."""

from __future__ import annotations

import numpy as np

_TINY = 1e-9


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] of length 1; those without a length stay 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY)


def tilts(degrees: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Turns of degrees [T, 3] (forwards, to the left, onto the right side) of a body with axes [3, 3], whose columns
    are left, up and front: first onto the side, then forwards, then about the vertical."""
    from scipy.spatial.transform import Rotation

    own = Rotation.from_euler("YXZ", degrees[:, [1, 0, 2]], degrees=True).as_matrix()
    return axes @ own @ axes.T


def between(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """The shortest turns from directions `start` [..., 3] to `stop`; about any level axis where they are opposite."""
    start, stop = np.broadcast_arrays(unit(start), unit(stop))
    axis, cosine = np.cross(start, stop), (start * stop).sum(-1)
    opposite = cosine < -1 + 1e-9
    side = np.where(np.abs(start[..., 1:2]) < 0.9, np.array([0.0, 1, 0]), np.array([1.0, 0, 0]))
    half = unit(np.cross(start, side))
    k = _cross_matrix(axis)
    turn = np.eye(3) + k + k @ k / np.maximum(1 + cosine, 1e-9)[..., None, None]
    about = 2 * half[..., :, None] * half[..., None, :] - np.eye(3)
    return np.where(opposite[..., None, None], about, turn)


def frame(direction: np.ndarray, pole: np.ndarray) -> np.ndarray:
    """Axes as columns: along `direction` [..., 3], towards `pole` as far as that is across it, and their normal."""
    along = unit(direction)
    across = unit(pole - (pole * along).sum(-1, keepdims=True) * along)
    return np.stack([along, across, np.cross(along, across)], -1)


def in_plane(direction: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Axes as columns: along `direction` [..., 3], across it in the plane with that `normal`, and their normal."""
    return frame(direction, np.cross(normal, direction))


def continuous(quaternions: np.ndarray) -> np.ndarray:
    """Quaternions [T, ..., 4] with the sign that is nearest to the one before: q and -q are one turn."""
    found = quaternions.copy()
    for frame_number in range(1, len(found)):
        away = (found[frame_number] * found[frame_number - 1]).sum(-1, keepdims=True) < 0
        found[frame_number] = np.where(away, -found[frame_number], found[frame_number])
    return found


def _cross_matrix(v: np.ndarray) -> np.ndarray:
    zero = np.zeros(v.shape[:-1])
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*v.shape[:-1], 3, 3)
