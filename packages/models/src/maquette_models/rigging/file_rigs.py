"""The skeletons of files, brought to what a body is made of.

Artists' rigs hold controls that move no vertex, fingers, feet that hang on the root for inverse kinematics, several
roots. What is left here are the joints that hold a part of the surface, with hands, feet and heads one joint each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette_models.rigging.skeleton_tree import NO_TREE, ROOT, Tree

LEAST_HELD = 1e-3  # share of the surface that a joint must hold
_REPEATED = ("other", "spine", "tail", "wing", "fin")
_MERGED = ("pelvis", "head", "hand", "foot", "front foot", "hind foot")
_ABOVE = {"hand": "forearm", "forearm": "upper arm"} | {
    f"{end}{bone}": f"{end}{above}"
    for end in ("", "front ", "hind ")
    for bone, above in (("foot", "shin"), ("shin", "thigh"))
}


@dataclass(frozen=True)
class FileRig:
    """Joints as a file has them: `roles`, `parents` int64 [J] and `positions` float64 [J, 3]; and of points on the
    surface the joints [P, K] that hold them, with weights float [P, K] that sum to 1 or are 0."""

    roles: NDArray[np.int64]
    parents: NDArray[np.int64]
    positions: NDArray[np.float64]
    joints: NDArray[np.int64]
    weights: NDArray[np.float32]


def is_repeated(role: str) -> bool:
    """Whether several joints of a body may have the role."""
    return split(role)[1] in _REPEATED


def split(role: str) -> tuple[str, str]:
    """Side ("left", "right" or "") and bone."""
    side, _, bone = role.partition(" ")
    return (side, bone) if side in ("left", "right") else ("", role)


def body_of(rig: FileRig, names: Sequence[str]) -> tuple[Tree, NDArray[np.float32]]:
    """The tree of a file's rig, depth first, and the weight float32 [P, J] of each of its joints at each point.

    Nothing is left, an empty tree, where no joint holds anything.

    Args:
        rig: of the file.
        names: of all roles.
    """
    count = len(rig.roles)
    dense = np.zeros((len(rig.joints), max(count, 1)), np.float32)
    np.add.at(dense, (np.arange(len(rig.joints))[:, None], rig.joints), rig.weights)
    kept = (dense[:, :count].mean(axis=0) >= LEAST_HELD) if count else np.zeros(0, bool)
    if not kept.any():
        return NO_TREE, dense[:, :0]
    roles = [names[role] for role in rig.roles]
    target = _targets(rig, roles, kept)
    left = np.flatnonzero(target == np.arange(count))
    for joint in left.tolist():
        others = [other for other in left.tolist() if other != joint and roles[other] == roles[joint]]
        if others and not is_repeated(roles[joint]) and min(others) < joint:
            roles[joint] = "other"
    tree = _joined(rig, roles, kept, target, names)
    weights = np.zeros((len(dense), len(left)), np.float32)
    np.add.at(weights.T, places_of_kept(left, count)[target], dense[:, :count].T)
    order = tree.depth_first()
    return tree.reordered(order), weights[:, order]


def places_of_kept(kept: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The place of each of `count` things among the kept ones, -1 for others."""
    places = np.full(count, -1)
    places[kept] = np.arange(len(kept))
    return places


def _targets(rig: FileRig, roles: list[str], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The joint [J] that each becomes: itself, the nearest kept one above it, or the one that it is merged into."""
    chosen: dict[str, int] = {}
    for joint in np.flatnonzero(kept).tolist():
        role = roles[joint]
        if split(role)[1] in _MERGED and (role not in chosen or _hangs_well(rig, roles, joint, chosen[role])):
            chosen[role] = joint
    target = np.arange(len(roles))
    fallback = int(np.flatnonzero(kept)[0])
    for joint in range(len(roles)):
        if not kept[joint]:
            above = rig.parents[joint]
            target[joint] = target[above] if above != ROOT else fallback
        elif split(roles[joint])[1] in _MERGED:
            target[joint] = chosen[roles[joint]]
    return target[target]


def _hangs_well(rig: FileRig, roles: list[str], joint: int, other: int) -> bool:
    """Whether a joint lies on its limb, and `other` of the same role does not."""
    side, bone = split(roles[joint])
    above = " ".join((side, _ABOVE.get(bone, ""))).strip()

    def on_limb(place: int) -> bool:
        while (place := int(rig.parents[place])) != ROOT:
            if roles[place] == above:
                return True
        return False

    return on_limb(joint) and not on_limb(other)


def _joined(
    rig: FileRig, roles: list[str], kept: NDArray[np.bool_], target: NDArray[np.int64], names: Sequence[str]
) -> Tree:
    """The tree of the joints that are left, each on the nearest of them above it or on the limb that it belongs to."""
    left = np.flatnonzero(target == np.arange(len(roles)))
    place, by_role = places_of_kept(left, len(roles)), {}
    for joint in left.tolist():
        by_role.setdefault(roles[joint], joint)
    parents = np.full(len(left), ROOT)
    for number, joint in enumerate(left.tolist()):
        above = int(rig.parents[joint])
        while above != ROOT and (not kept[above] or target[above] == joint):
            above = int(rig.parents[above])
        side, bone = split(roles[joint])
        wanted = by_role.get(f"{side} {_ABOVE.get(bone, '?')}".strip())
        if wanted is not None and wanted != joint:
            above = wanted
        parents[number] = ROOT if above == ROOT else place[target[above]]
    own = np.array([names.index(roles[joint]) for joint in left.tolist()], np.int64)
    root = _root(parents, [roles[joint] for joint in left.tolist()])
    return Tree(own, _hung_on(root, parents), rig.positions[left].astype(np.float64))


def _root(parents: NDArray[np.int64], roles: Sequence[str]) -> int:
    """The joint that is to be the root: of those without a parent a pelvis, else the first."""
    tops = np.flatnonzero(parents == ROOT).tolist() or [0]
    return next((joint for joint in tops if roles[joint] == "pelvis"), tops[0])


def _hung_on(root: int, parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """The parents [J] with what does not lead up to the root hung on it."""
    parents = parents.copy()
    parents[root] = ROOT
    for joint in range(len(parents)):
        passed, above = {joint}, int(parents[joint])
        while above != ROOT and above not in passed:
            passed.add(above)
            above = int(parents[above])
        if joint != root and (above != ROOT or root not in passed):
            parents[joint] = root
    return parents
