"""Skins and clips as file formats want them: rigid joints, few influences that sum to 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Animation, Asset, Skeleton, Skin
from maquette_data3d.exporting.pieces import parts_of
from maquette_data3d.geometry.rigid import rigid, to_parents

MOST_INFLUENCES = 8
STILL = "still"
"""The joint that holds vertices that no joint moves, among others of their part that joints move."""


@dataclass(frozen=True)
class Binding:
    """A skin without what formats refuse.

    Attributes:
        rest: float64 [J, 4, 4], joint to model, without scale and shear.
        local: the same to the parent.
        joints: int64 [V, K], K at most 8, the heaviest first, each joint once a vertex, 0 where the weight is 0.
        weights: float32 [V, K], rows sum to 1, or are 0 for vertices that no joint moves.
    """

    skeleton: Skeleton
    rest: np.ndarray
    local: np.ndarray
    joints: np.ndarray
    weights: np.ndarray

    @property
    def loose(self) -> np.ndarray:
        """bool [V]: no joint moves it."""
        return self.weights.sum(1) <= 0


def stilled(asset: Asset) -> Asset:
    """The asset with a joint more, which stands still, where a part that joints move has vertices that none moves.

    File formats want weights of every vertex of a skinned part; parts that no joint moves at all are written without.
    """
    mesh, skin = asset.mesh, asset.mesh.skin
    if skin is None:
        return asset
    if not skin.skeleton.names:
        return Asset(replace(mesh, skin=None), asset.metadata)
    loose, part = skin.weights.sum(1) <= 0, parts_of(mesh)
    moved = np.bincount(part, (~loose)[mesh.faces].any(1)) > 0
    held = np.zeros(len(loose), bool)
    held[mesh.faces[moved[part]]] = True
    held &= loose
    if not held.any():
        return asset
    skeleton, count = skin.skeleton, len(skin.skeleton.names)
    name = next(name for name in (STILL, *(f"{STILL}_{n}" for n in range(count))) if name not in skeleton.names)
    parents = np.append(skeleton.parents, -1).astype(np.int32)
    grown = Skeleton((*skeleton.names, name), parents, np.concatenate([skeleton.rest, np.eye(4)[None]]))
    joints, weights = skin.joints.copy(), skin.weights.copy()
    joints[held, 0], weights[held, 0] = count, 1.0
    clips = tuple(
        replace(
            clip,
            rotations=np.concatenate([clip.rotations, np.tile(np.float32([0, 0, 0, 1]), (len(clip.times), 1, 1))], 1),
            translations=np.concatenate([clip.translations, np.zeros((len(clip.times), 1, 3), np.float32)], 1),
        )
        for clip in asset.animations
    )
    return replace(asset, mesh=replace(mesh, skin=Skin(grown, joints, weights)), animations=clips)


def bound(skin: Skin) -> Binding:
    """The skin made ready to be written."""
    rest = rigid(np.asarray(skin.skeleton.rest, np.float64))
    joints, weights = influences(skin.joints.astype(np.int64), skin.weights)
    return Binding(skin.skeleton, rest, to_parents(rest, skin.skeleton.parents), joints, weights)


def influences(joints: np.ndarray, weights: np.ndarray, most: int = MOST_INFLUENCES) -> tuple[np.ndarray, np.ndarray]:
    """Joints and weights [V, K] as `Binding` holds them; lighter ones than the `most` heaviest are left out."""
    weights = weights.astype(np.float64)
    order = np.argsort(joints, axis=1, kind="stable")
    joints, weights = np.take_along_axis(joints, order, 1), np.take_along_axis(weights, order, 1)
    for slot in range(1, joints.shape[1]):
        again = joints[:, slot] == joints[:, slot - 1]
        weights[again, slot] += weights[again, slot - 1]
        weights[again, slot - 1] = 0.0
    order = np.argsort(-weights, axis=1, kind="stable")[:, :most]
    joints, weights = np.take_along_axis(joints, order, 1), np.take_along_axis(weights, order, 1)
    width = max(int((weights > 0).sum(1).max(initial=0)), 1)
    joints, weights = joints[:, :width], weights[:, :width]
    total = weights.sum(1, keepdims=True)
    rounded = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0).astype(np.float32)
    # The heaviest takes what rounding left over, so that the sum is 1 in 32 bits.
    rounded[:, 0] += np.where(total[:, 0] > 0, 1.0 - rounded.sum(1, dtype=np.float64), 0.0).astype(np.float32)
    return np.where(rounded > 0, joints, 0), rounded


def checked(clip: Animation) -> Animation:
    """The clip, if its numbers can be written.

    Raises:
        MaquetteError: no frames, times that do not ascend, numbers that are none, or rotations of no length.
    """
    finite = all(np.isfinite(values).all() for values in (clip.times, clip.rotations, clip.translations))
    if not len(clip.times) or not finite:
        raise MaquetteError(f"animation '{clip.name}' has no frames, or numbers that are NaN or infinite")
    if clip.times[0] < 0 or (np.diff(clip.times) <= 0).any():
        raise MaquetteError(f"animation '{clip.name}': its times must ascend from 0")
    length = np.linalg.norm(clip.rotations.astype(np.float64), axis=-1, keepdims=True)
    if (length < 1e-6).any():
        raise MaquetteError(f"animation '{clip.name}' has a rotation of no length")
    turns = (clip.rotations / length).astype(np.float32)
    return Animation(clip.name, np.asarray(clip.times, np.float32), turns, np.asarray(clip.translations, np.float32))
