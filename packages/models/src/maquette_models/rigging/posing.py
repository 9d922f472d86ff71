"""Surfaces moved by their skeletons: linear blend skinning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from maquette_models.rigging.skeleton_tree import ROOT


def random_turns(rng: np.random.Generator, joints: int, degrees: float) -> NDArray[np.float64]:
    """Rotations [J, 3, 3] about random axes by up to so many degrees."""
    axes = rng.normal(size=(joints, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True).clip(min=1e-9)
    return Rotation.from_rotvec(axes * np.radians(rng.uniform(0, degrees, (joints, 1)))).as_matrix()


def moved_joints(
    positions: NDArray[np.float64], parents: Sequence[int] | NDArray[np.int64], turns: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where joints [J, 3] come to and how they are turned [J, 3, 3], when each is turned about itself; what hangs on a
    joint turns with it. Each joint must come after its parent."""
    places, turned = positions.astype(np.float64).copy(), turns.astype(np.float64).copy()
    for joint, parent in enumerate(np.asarray(parents).tolist()):
        if parent != ROOT:
            places[joint] = places[parent] + turned[parent] @ (positions[joint] - positions[parent])
            turned[joint] = turned[parent] @ turns[joint]
    return places, turned


def skinned(
    points: NDArray[np.floating],
    weights: NDArray[np.floating],
    positions: NDArray[np.float64],
    places: NDArray[np.float64],
    turned: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points [P, 3] moved by joints with weights [P, J], and the blended matrix [P, 3, 3] at each; see `moved_joints`.

    Points that nothing holds stay.
    """
    offsets = places - np.einsum("jab,jb->ja", turned, positions)
    held = weights.sum(axis=1)
    blended = np.einsum("pj,jab->pab", weights, turned) + (1 - held)[:, None, None] * np.eye(3)
    return np.einsum("pab,pb->pa", blended, points) + weights @ offsets, blended
