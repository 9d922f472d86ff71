"""Turns and places of joints: what is left of a transform without its scale and shear."""

from __future__ import annotations

import numpy as np


def rigid(matrices: np.ndarray) -> np.ndarray:
    """The nearest turn and place of each transform float64 [..., 4, 4]; a mirror is taken out of the first axis."""
    left, _, right = np.linalg.svd(matrices[..., :3, :3])
    turn = left @ right
    turn[..., 0] *= np.where(np.linalg.det(turn) < 0, -1.0, 1.0)[..., None]
    found = np.zeros(matrices.shape)
    found[..., :3, :3] = turn
    found[..., :3, 3] = matrices[..., :3, 3]
    found[..., 3, 3] = 1.0
    return found


def to_parents(world: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Joint to parent float64 [..., J, 4, 4] of joint to model; a root's stays."""
    above = np.where(parents[:, None, None] >= 0, world[..., np.maximum(parents, 0), :, :], np.eye(4))
    return np.linalg.inv(above) @ world


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """float64 [..., 4] (x, y, z, w) of rigid transforms [..., 4, 4]."""
    from scipy.spatial.transform import Rotation

    turns = matrices[..., :3, :3]
    return Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_quat().reshape(*turns.shape[:-2], 4)


def transforms(rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """float64 [..., 4, 4] of quaternions [..., 4] (x, y, z, w) and translations [..., 3]."""
    from scipy.spatial.transform import Rotation

    found = np.zeros((*rotations.shape[:-1], 4, 4))
    turns = Rotation.from_quat(np.asarray(rotations, np.float64).reshape(-1, 4)).as_matrix()
    found[..., :3, :3] = turns.reshape(*rotations.shape[:-1], 3, 3)
    found[..., :3, 3] = translations
    found[..., 3, 3] = 1.0
    return found
