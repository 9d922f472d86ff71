"""Limbs of a skeleton whose names say nothing: chains that reach the ground, or stick out, in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.types import Mesh, Skeleton
from maquette_data3d.animation.body import Limb, descendants

_GROUND = 0.1  # of the height: how near the ground a leg's lowest vertex is
_DROP = 0.1  # of the height: what a leg must fall from its first joint to its last vertex
_REACH = 0.1  # of the height: how far arms must reach out to the side


@dataclass(frozen=True)
class Chain:
    """Joints without a branch, ending at one that has nothing below it; `lowest` is the height of its lowest vertex,
    `detail` how many vertices its last joint holds."""

    joints: tuple[int, ...]
    lowest: float
    detail: int


def chains(mesh: Mesh, skeleton: Skeleton, used: np.ndarray, heaviest: np.ndarray) -> list[Chain]:
    """All chains of joints that move something (`used` bool [J])."""
    children: list[list[int]] = [[] for _ in skeleton.names]
    for place, parent in enumerate(skeleton.parents):
        if parent >= 0 and used[place]:
            children[parent].append(place)
    found = []
    for leaf in (p for p in np.flatnonzero(used) if not children[p]):
        line = [int(leaf)]
        while skeleton.parents[line[-1]] >= 0 and len(children[skeleton.parents[line[-1]]]) == 1:
            line.append(int(skeleton.parents[line[-1]]))
        own = mesh.vertices[np.isin(heaviest, line[:2])].astype(np.float64)
        if len(own):
            found.append(Chain(tuple(reversed(line)), float(own[:, 1].min()), int((heaviest == leaf).sum())))
    return found


def shaped_legs(found: list[Chain], positions: np.ndarray, lowest: float, height: float) -> list[Chain]:
    """The chains that fall to the ground; none where they are an odd number."""
    legs = [
        chain
        for chain in found
        if len(chain.joints) >= 2
        and chain.lowest <= lowest + _GROUND * height
        and positions[chain.joints[0]][1] - chain.lowest >= _DROP * height
    ]
    return legs if len(legs) % 2 == 0 else []


def lateral_axis(legs: list[Chain], positions: np.ndarray, trunk: np.ndarray) -> np.ndarray:
    """The level axis, x or z, that a body's two sides lie along.

    With two legs it is the one that their hips differ in, with more the one that the rest of the joints, bool [J]
    `trunk`, spread least over.
    """
    if len(legs) == 2:
        spread = np.abs(positions[legs[0].joints[0]] - positions[legs[1].joints[0]])
    else:
        spread = -np.ptp(positions[trunk], axis=0)
    return np.array([1.0, 0, 0]) if spread[0] >= spread[2] else np.array([0, 0, 1.0])


def limb_of(chain: Chain, positions: np.ndarray, side: int) -> Limb:
    """A chain as a limb: its two longest bones one after the other, and the joint behind them if there is one."""
    joints = chain.joints
    if len(joints) == 2:
        return Limb(joints[0], joints[1], None, side)
    steps = np.linalg.norm(np.diff(positions[list(joints)], axis=0), axis=1)
    first = int(np.argmax(steps[:-1] + steps[1:]))
    return Limb(joints[first], joints[first + 1], joints[first + 2], side)


def shaped_arms(rest: list[Chain], positions: np.ndarray, left: np.ndarray, height: float) -> list[Chain]:
    """Of chains that are no legs the two that reach farthest out to either side, where they do alike."""
    middle = float(np.median(positions @ left))
    outs = {chain: float(positions[chain.joints[-1]] @ left) - middle for chain in rest if len(chain.joints) >= 2}
    if len(outs) < 2:
        return []
    one, other = max(outs, key=lambda chain: outs[chain]), min(outs, key=lambda chain: outs[chain])
    alike = outs[one] > _REACH * height and outs[other] < -_REACH * height and len(one.joints) == len(other.joints)
    return [one, other] if alike else []


def shaped_trunk(
    rest: list[Chain], skeleton: Skeleton, start: int, along: np.ndarray
) -> tuple[dict[str, tuple[int, ...]], int]:
    """Head and tail among chains that are no limbs, and which way along the axis `along` the head is, 1 or -1.

    The end with more vertices is the head: a tail has no face, and thins out.
    """
    positions = skeleton.rest[:, :3, 3]
    ends = {chain: float((positions[chain.joints[-1]] - positions[start]) @ along) for chain in rest}
    if not ends:
        return {}, 1
    sides = [max((c for c in ends if ends[c] * way > 0), key=lambda c: abs(ends[c]), default=None) for way in (1, -1)]
    forward, backward = sides
    details = [-1 if chain is None else chain.detail for chain in (forward, backward)]
    way = 1 if details[0] >= details[1] else -1
    head, tail = (forward, backward) if way == 1 else (backward, forward)
    trunk: dict[str, tuple[int, ...]] = {}
    if head is not None:
        trunk["head"], trunk["neck"] = head.joints[-1:], head.joints[:-1]
        above = descendants(skeleton, (start,))
        line, place = [], int(skeleton.parents[head.joints[0]])
        while place >= 0 and place != start and above[place]:
            line.append(place)
            place = int(skeleton.parents[place])
        trunk["spine"] = tuple(reversed(line))
    if tail is not None and len(tail.joints) > 1:
        trunk["tail"] = tail.joints
    return trunk, way
