"""How far a rig is from another: joints, weights, and where poses take the surface."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from maquette_models.rigging.posing import moved_joints, random_turns, skinned
from maquette_models.rigging.skeleton_tree import Tree


def joint_to_joint(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The mean distance of joints [J, 3] to the nearest of the others [K, 3], averaged over both ways (J2J)."""
    distances = cdist(one, other)
    return float((distances.min(axis=0).mean() + distances.min(axis=1).mean()) / 2)


def weight_difference(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """The L1 distance of weights [V, J], summed over the joints and averaged over vertices: 0 to 2."""
    return float(np.abs(one - other).sum(axis=1).mean())


class Bound(NamedTuple):
    """A tree and the weight [V, J] of each of its joints at each vertex."""

    tree: Tree
    weights: NDArray[np.floating]


POSES = 4
DEGREES = 45.0


def posed_difference(points: NDArray[np.floating], wanted: Bound, found: Bound, rng: np.random.Generator) -> float:
    """The mean distance of points [V, 3] posed by one rig and by another, over `POSES` random poses.

    Each joint but the root turns by up to `DEGREES`; joints of one role and number turn alike, what the other tree
    lacks stays.
    """
    (tree, _), (other, _) = wanted, found
    total = 0.0
    for _ in range(POSES):
        turns = random_turns(rng, len(tree), DEGREES)
        turns[0] = np.eye(3)
        known = {key: turn for key, turn in zip(numbered(tree), turns, strict=True)}
        same = np.stack([known.get(key, np.eye(3)) for key in numbered(other)])
        one, two = (_posed(points, *pair) for pair in ((wanted, turns), (found, same)))
        total += float(np.linalg.norm(one - two, axis=1).mean())
    return total / POSES


def numbered(tree: Tree) -> list[tuple[int, int]]:
    """The role of each joint and how many of it came before."""
    seen: dict[int, int] = {}
    found = []
    for role in tree.roles.tolist():
        seen[role] = seen.get(role, -1) + 1
        found.append((role, seen[role]))
    return found


def dense_weights(joints: NDArray[np.integer], weights: NDArray[np.floating], count: int) -> NDArray[np.float32]:
    """Weights [V, K] of joints [V, K] as float32 [V, count]."""
    dense = np.zeros((len(joints), count), np.float32)
    np.add.at(dense, (np.arange(len(joints))[:, None], joints), weights)
    return dense


def _posed(points: NDArray[np.floating], rig: Bound, turns: NDArray[np.float64]) -> NDArray[np.float64]:
    positions = rig.tree.positions
    return skinned(points, rig.weights, positions, *moved_joints(positions, rig.tree.parents, turns))[0]
