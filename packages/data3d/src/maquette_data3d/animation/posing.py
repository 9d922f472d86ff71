"""A motion put onto a body: where every joint is and how it is turned, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.types import Mesh
from maquette_data3d.animation.body import UP, Body, descendants, heaviest_joints, skin_of
from maquette_data3d.animation.legs import Leg
from maquette_data3d.animation.motion import ArmMotion, Motion
from maquette_data3d.animation.turning import between, tilts

_ROUNDS = 3  # of putting soles where they should be
_MOST_DROP = 0.25  # of a leg: how far hips go down before strides are shortened
_CLEARANCE = 0.02  # of the height: how far hands stay from the trunk
_WIDEST = 35.0  # degrees: the most that arms are spread for that

Placed = dict[int, tuple[np.ndarray, np.ndarray]]
"""Turn from rest [T, 3, 3] and place [T, 3] by joint."""


@dataclass(frozen=True)
class Poses:
    """All joints in T frames: `turns` float64 [T, J, 3, 3] from rest, in model space, and `places` [T, J, 3]."""

    turns: np.ndarray
    places: np.ndarray


class Poser:
    """Poses one body.

    Args:
        mesh: skinned; its soles are kept over the ground.
        body: of the mesh.
    """

    def __init__(self, mesh: Mesh, body: Body) -> None:
        self.mesh, self.body, self.skeleton = mesh, body, skin_of(mesh).skeleton
        self.legs = [Leg.of(body, number) for number in range(len(body.legs))]
        self.spread = _clearance(mesh, body)

    def fitted(self, motion: Motion) -> tuple[float, float]:
        """The share of its strides that the body can take, and how far its hips go down for them, so that every leg
        reaches its place: strides are shortened where hips would go down by more than a quarter of a leg."""
        trunk, stride = self._trunk(motion, 0.0), 1.0
        while (drop := self._drop(motion, trunk, stride)) > _MOST_DROP * self.body.reach and stride > 0.1:
            stride *= 0.85
        return stride, drop

    def poses(self, motion: Motion) -> Poses:
        """The motion on the spot: what it travels is not in it."""
        stride, drop = self.fitted(motion)
        trunk = self._trunk(motion, drop)
        shifts = [np.zeros((len(motion.offset), 3)) for _ in self.legs]
        for _ in range(_ROUNDS):
            poses = self._with_legs(motion, trunk, stride, shifts)
            shifts = [shift + self._miss(motion, poses, stride, leg) for leg, shift in enumerate(shifts)]
        return self._with_legs(motion, trunk, stride, shifts)

    def _trunk(self, motion: Motion, drop: float) -> Poses:
        """Everything but the legs, with the hips `drop` lower."""
        body = self.body
        tilt = tilts(motion.tilt, body.axes)
        offset = motion.offset @ body.axes.T * body.reach + body.pivot - drop * UP
        movers: Placed = {}
        for place in body.movers:
            movers[place] = tilt, offset + tilt @ (body.positions[place] - body.pivot)
        own: dict[int, np.ndarray] = {}
        for part, joints in body.trunk.items():
            if part in motion.turns and joints:
                shared = tilts(motion.turns[part] / len(joints), body.axes)
                own |= dict.fromkeys(joints, shared)
        own |= self._arms(motion.arms)
        return self._spread_out(len(offset), movers, own)

    def _arms(self, arms: dict[int, ArmMotion]) -> dict[int, np.ndarray]:
        """Turns [T, 3, 3] of the bones of arms against the trunk; a forearm's is against its upper arm."""
        found, positions = {}, self.body.positions
        for limb, spread in zip(self.body.arms, self.spread, strict=True):
            if limb.side not in arms:
                continue
            move = arms[limb.side]
            hand = limb.end if limb.end is not None else limb.lower
            bones = positions[limb.lower] - positions[limb.upper], positions[hand] - positions[limb.lower]
            upper = between(bones[0], self._pointing(limb.side, move.swing, np.maximum(move.spread, spread)))
            found[limb.upper] = upper
            if limb.end is not None:
                wanted = self._pointing(limb.side, move.lower_swing, move.lower_spread)
                found[limb.lower] = between(bones[1], np.einsum("tji,tj->ti", upper, wanted))
        return found

    def _pointing(self, side: int, swing: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Directions [T, 3] of a bone that hangs, swung to the front and spread outwards, in degrees."""
        swing, spread = np.radians(swing), np.radians(spread)
        out, down, ahead = np.sin(spread), np.cos(spread) * np.cos(swing), np.cos(spread) * np.sin(swing)
        return np.stack([side * out, -down, ahead], 1) @ self.body.axes.T

    def _spread_out(self, frames: int, placed: Placed, own: dict[int, np.ndarray]) -> Poses:
        """Joints follow those above them; `placed` ones are where it says, `own` turns come on top."""
        positions, parents = self.body.positions, self.skeleton.parents
        turns = np.tile(np.eye(3), (frames, len(positions), 1, 1))
        places = np.tile(positions, (frames, 1, 1))
        for place, parent in enumerate(parents):
            if place in placed:
                turns[:, place], places[:, place] = placed[place]
            elif parent >= 0:
                turns[:, place] = turns[:, parent]
                places[:, place] = places[:, parent] + turns[:, parent] @ (positions[place] - positions[parent])
            if place in own:
                turns[:, place] = turns[:, place] @ own[place]
        return Poses(turns, places)

    def _soles(self, motion: Motion, number: int, stride: float) -> np.ndarray:
        """Where the sole of a leg is to be, [T, 3]."""
        path = motion.feet[number].path * (1.0, 1.0, stride)
        return self.legs[number].sole.point + path @ self.body.axes.T * self.body.reach

    def _feet(self, motion: Motion, number: int) -> np.ndarray:
        pitch = motion.feet[number].pitch
        return tilts(np.stack([pitch, 0 * pitch, 0 * pitch], 1), self.body.axes)

    def _drop(self, motion: Motion, trunk: Poses, stride: float) -> float:
        """How much lower the hips must be for all legs to reach; infinite where no height does."""
        most = 0.0
        for number, leg in enumerate(self.legs):
            ankle = leg.ankle_at(self._soles(motion, number, stride), self._feet(motion, number))
            way = trunk.places[:, leg.limb.upper] - ankle
            level = np.linalg.norm(way - (way @ UP)[:, None] * UP, axis=1)
            if (level >= leg.longest).any():
                return np.inf
            most = max(most, float((way @ UP - np.sqrt(leg.longest**2 - level**2)).max()))
        return most

    def _with_legs(self, motion: Motion, trunk: Poses, stride: float, shifts: list[np.ndarray]) -> Poses:
        placed: Placed = {place: (trunk.turns[:, place], trunk.places[:, place]) for place in self._not_below_legs()}
        for number, leg in enumerate(self.legs):
            foot, hip = self._feet(motion, number), trunk.places[:, leg.limb.upper]
            sole = self._soles(motion, number, stride) + shifts[number]
            pose = leg.solve(hip, leg.ankle_at(sole, foot), foot, trunk.turns[:, self.body.movers[0]])
            placed[leg.limb.upper], placed[leg.limb.lower] = (pose.upper, hip), (pose.lower, pose.knee)
            if leg.limb.end is not None:
                placed[leg.limb.end] = pose.foot, pose.ankle
        return self._spread_out(len(motion.offset), placed, {})

    def _not_below_legs(self) -> list[int]:
        roots = tuple(joint for leg in self.legs for joint in leg.limb.joints)
        return np.flatnonzero(~descendants(self.skeleton, roots)).tolist()

    def _miss(self, motion: Motion, poses: Poses, stride: float, number: int) -> np.ndarray:
        """What a sole's vertices lack, [T, 3], to be where they should on the level and not under the ground: other
        bones pull on them too, and a leg without an ankle turns its sole."""
        leg = self.legs[number]
        own = leg.sole.vertices
        if not len(own):
            return np.zeros((len(poses.places), 3))
        points = skinned(self.mesh, poses, own)
        aside = self.mesh.vertices[own].astype(np.float64).mean(0) - leg.sole.point
        if leg.limb.end is not None:
            aside = self._feet(motion, number) @ aside
        miss = self._soles(motion, number, stride) + aside - points.mean(1)
        low = min(self.body.ground, float(leg.sole.point[1]))
        miss[:, 1] = np.maximum(low - points[..., 1].min(1), 0.0)
        return miss


def skinned(mesh: Mesh, poses: Poses, vertices: np.ndarray) -> np.ndarray:
    """Places float64 [T, S, 3] of some vertices by linear blend skinning."""
    skin = skin_of(mesh)
    positions = np.asarray(skin.skeleton.rest[:, :3, 3], np.float64)
    joints, weights = skin.joints[vertices], skin.weights[vertices].astype(np.float64)
    points = mesh.vertices[vertices].astype(np.float64)
    total = weights.sum(1)
    found = np.where(total[:, None] > 0, 0.0, points) + np.zeros((len(poses.places), 1, 1))
    weights = np.divide(weights, total[:, None], out=np.zeros_like(weights), where=total[:, None] > 0)
    for slot in range(joints.shape[1]):
        joint = joints[:, slot]
        moved = np.einsum("tsij,sj->tsi", poses.turns[:, joint], points - positions[joint]) + poses.places[:, joint]
        found += weights[None, :, slot, None] * moved
    return found


def _clearance(mesh: Mesh, body: Body) -> list[float]:
    """Degrees that each arm must be spread for the hand to pass the trunk beside it."""
    heaviest = heaviest_joints(skin_of(mesh))
    trunk = [*body.movers, *body.trunk["spine"], *(leg.upper for leg in body.legs)]
    found = []
    for arm in body.arms:
        shoulder = body.positions[arm.upper]
        joints = body.positions[list(arm.joints)]
        length = float(np.linalg.norm(np.diff(joints, axis=0), axis=1).sum())
        beside = np.isin(heaviest, trunk) & (mesh.vertices[:, 1] > shoulder[1] - length)
        out = arm.side * body.left
        wide = float((mesh.vertices[beside] @ out).max()) if beside.any() else -np.inf
        needed = (wide + _CLEARANCE * body.height - shoulder @ out) / max(length, 1e-9)
        found.append(float(np.clip(np.degrees(np.arcsin(np.clip(needed, 0.0, 1.0))), 0.0, _WIDEST)))
    return found
