"""The bones of a skeleton, and what a point of the surface knows of each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette_models.rigging.skeleton_tree import ROOT, Tree


@dataclass(frozen=True)
class Bones:
    """Segments from joints to their children, several of a joint that forks, a point for a joint without children.

    `owner` int64 [S], the joint of each; `start`, `end` float64 [S, 3]; and of the joints their `positions` and the
    direction `inward` float64 [J, 3] from their parents, of length 1, zero at the root.
    """

    owner: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    positions: NDArray[np.float64]
    inward: NDArray[np.float64]


@dataclass(frozen=True)
class ToBones:
    """From points to bones: `distance` float64 [P, J], `offset` float64 [P, J, 3] to the nearest place on the bone, and
    how far `along` it that lies, in [0, 1], float64 [P, J]."""

    distance: NDArray[np.float64]
    offset: NDArray[np.float64]
    along: NDArray[np.float64]


def bones_of(tree: Tree) -> Bones:
    """The bones of a tree."""
    child = np.flatnonzero(tree.parents != ROOT)
    leaves = np.setdiff1d(np.arange(len(tree)), tree.parents[child])
    owner = np.concatenate([tree.parents[child], leaves])
    ends = np.concatenate([child, leaves])
    above = np.where(tree.parents == ROOT, np.arange(len(tree)), tree.parents)
    inward = tree.positions - tree.positions[above]
    lengths = np.linalg.norm(inward, axis=1, keepdims=True)
    inward = inward / np.where(lengths > 1e-9, lengths, 1)
    order = np.argsort(owner, kind="stable")
    return Bones(owner[order], tree.positions[owner[order]], tree.positions[ends[order]], tree.positions.copy(), inward)


def distances_to_bones(points: NDArray[np.floating], bones: Bones) -> ToBones:
    """From points [P, 3] to the nearest segment of each joint."""
    line = bones.end - bones.start
    offset = points[:, None] - bones.start
    share = (offset * line).sum(-1) / np.maximum((line * line).sum(-1), 1e-12)
    share = share.clip(0, 1)
    to = share[..., None] * line - offset
    distance = np.linalg.norm(to, axis=-1)
    best = _nearest_segments(distance, bones.owner)
    rows = np.arange(len(points))[:, None]
    return ToBones(distance[rows, best], to[rows, best], share[rows, best])


def _nearest_segments(distance: NDArray[np.float64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest segment [P, J] of each joint, from distances [P, S]; segments are sorted by their owners."""
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    least = np.minimum.reduceat(distance, starts, axis=1)[:, owner]
    segment = np.where(distance <= least, np.arange(len(owner)), len(owner))
    return np.minimum.reduceat(segment, starts, axis=1)
