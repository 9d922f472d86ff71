"""Which joint of a skeleton is which: by name where names tell, by place and shape where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Mesh, Skeleton
from maquette_data3d.animation.body import (
    UP,
    Body,
    Limb,
    Sole,
    descendants,
    heaviest_joints,
    skin_of,
    sole_of,
    standing,
)
from maquette_data3d.animation.named_limbs import meanings, named_limbs, named_trunk
from maquette_data3d.animation.shaped_limbs import (
    Chain,
    chains,
    lateral_axis,
    limb_of,
    shaped_arms,
    shaped_legs,
    shaped_trunk,
)

_ARM_HEIGHT = 0.12  # of the height: forelegs that end higher than this are arms
_LEVEL = 0.2  # of a direction: what must be level of it to tell the front


def body_of(mesh: Mesh) -> Body:
    """The body of a skinned mesh, y up. Where no legs are found it has none.

    Raises:
        MaquetteError: the mesh has no skin, or one that moves no vertex.
    """
    finder = _Finder(mesh)
    return finder.by_name() or finder.by_shape()


def _used(skeleton: Skeleton, heaviest: np.ndarray) -> np.ndarray:
    """bool [J]: joints that hold vertices, and all above those."""
    used = np.zeros(len(skeleton.names), bool)
    used[heaviest[heaviest >= 0]] = True
    for place in range(len(used) - 1, -1, -1):
        if used[place] and skeleton.parents[place] >= 0:
            used[skeleton.parents[place]] = True
    return used


class _Finder:
    """Looks for the roles of one mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.skeleton = mesh, skin_of(mesh).skeleton
        self.heaviest = heaviest_joints(skin_of(mesh))
        if not (self.heaviest >= 0).any():
            raise MaquetteError("the mesh's skeleton moves none of its vertices; rig it anew")
        self.used = _used(self.skeleton, self.heaviest)
        heights = mesh.vertices[self.heaviest >= 0, 1]
        self.lowest, self.height = float(heights.min()), max(float(np.ptp(heights)), 1e-9)
        self.positions = np.asarray(self.skeleton.rest[:, :3, 3], np.float64)

    def by_name(self) -> Body | None:
        """None where names tell of no legs that stand on the ground in pairs."""
        said = meanings(self.skeleton, self.used)
        legs, arms = named_limbs(self.skeleton, said, "leg"), named_limbs(self.skeleton, said, "arm")
        soles = self._soles(legs)
        high = [place for place, sole in enumerate(soles) if sole.point[1] > self.lowest + _ARM_HEIGHT * self.height]
        if high and len(legs) > 2:
            arms += [legs[place] for place in high]
            legs = [leg for place, leg in enumerate(legs) if place not in high]
            soles = tuple(sole for place, sole in enumerate(soles) if place not in high)
        if len(legs) < 2 or len(legs) % 2 or not standing(soles, self.lowest, self.height):
            return None
        trunk = named_trunk(said)
        return self._body(legs, soles, arms, trunk, self._front(legs, soles, trunk))

    def by_shape(self) -> Body:
        """Legs are chains that reach the ground; none are found where they come in no pairs."""
        found = chains(self.mesh, self.skeleton, self.used, self.heaviest)
        legs = shaped_legs(found, self.positions, self.lowest, self.height)
        in_legs = np.zeros(len(self.positions), bool)
        for chain in legs:
            in_legs |= descendants(self.skeleton, chain.joints[:1])
        across = lateral_axis(legs, self.positions, self.used & ~in_legs) if legs else self._across()
        rest = [chain for chain in found if chain not in legs]
        arms = shaped_arms(rest, self.positions, across, self.height) if len(legs) == 2 else []
        forward = np.cross(across, UP)
        start = self._mover([chain.joints[0] for chain in legs])[0]
        trunk, way = shaped_trunk([c for c in rest if c not in arms], self.skeleton, start, forward)
        named = named_trunk(meanings(self.skeleton, self.used))
        if named["head"] or named["tail"]:
            trunk, way = named, self._way(named, forward)
        limbs = [self._sided(chain, across) for chain in legs]
        soles = self._soles(limbs)
        if not standing(soles, self.lowest, self.height) or sum(limb.side for limb in limbs):
            limbs, soles, arms = [], (), []
        front = self._forward(limbs, soles, forward * way)
        return self._body(limbs, soles, [self._sided(chain, across) for chain in arms], trunk, front)

    def _way(self, trunk: dict[str, tuple[int, ...]], forward: np.ndarray) -> int:
        """1 where the head, or what is not the tail, lies along `forward`, -1 where it is behind."""
        middle = self.positions[self.used].mean(0)
        ahead = (
            self.positions[trunk["head"][0]] - middle if trunk["head"] else middle - self.positions[trunk["tail"][0]]
        )
        return 1 if ahead @ forward >= 0 else -1

    def _soles(self, legs: list[Limb]) -> tuple[Sole, ...]:
        return tuple(sole_of(self.mesh, leg, self.heaviest, self.height) for leg in legs)

    def _sided(self, chain: Chain, across: np.ndarray) -> Limb:
        """The sign is that of the axis; `_body` turns it to the left."""
        middle = float(np.median(self.positions[self.used] @ across))
        tip = float(self.positions[chain.joints[0]] @ across)
        return limb_of(chain, self.positions, 1 if tip > middle else -1)

    def _across(self) -> np.ndarray:
        """The shorter level side of the joints' box."""
        spread = np.ptp(self.positions[self.used], axis=0)
        return np.array([1.0, 0, 0]) if spread[0] <= spread[2] else np.array([0, 0, 1.0])

    def _front(self, legs: list[Limb], soles: tuple[Sole, ...], trunk: dict[str, tuple[int, ...]]) -> np.ndarray:
        """Across the line from the right hips to the left ones; of its two ends the one that the feet or, of four
        legs, the head points to."""
        hips = self.positions[[leg.upper for leg in legs]]
        sides = np.array([leg.side for leg in legs])
        across = hips[sides > 0].mean(0) - hips[sides < 0].mean(0)
        front = np.cross(across * (1, 0, 1), UP)
        front /= max(float(np.linalg.norm(front)), 1e-12)
        if len(legs) > 2 and trunk["head"]:
            ahead = self.positions[trunk["head"][0]] - hips.mean(0)
            return front if ahead @ front >= 0 else -front
        return self._forward(legs, soles, front)

    def _forward(self, legs: list[Limb], soles: tuple[Sole, ...], front: np.ndarray) -> np.ndarray:
        """Of two-legged ones the end of `front` that feet point to, from the ankle to the middle of the sole."""
        if len(legs) != 2:
            return front
        ankles = [self.positions[leg.joints[-1]] for leg in legs]
        points = np.mean([sole.point - ankle for sole, ankle in zip(soles, ankles, strict=True)], axis=0) @ front
        return -front if points < -_LEVEL * 0.1 * self.height else front

    def _mover(self, uppers: list[int]) -> tuple[int, ...]:
        """The deepest joint above all legs; every root where there is none."""
        above = [self._above(place) for place in uppers]
        shared = set.intersection(*above) if above else set()
        return (max(shared),) if shared else tuple(int(p) for p in np.flatnonzero(self.skeleton.parents < 0))

    def _above(self, place: int) -> set[int]:
        found = set()
        place = int(self.skeleton.parents[place])
        while place >= 0:
            found.add(place)
            place = int(self.skeleton.parents[place])
        return found

    def _body(
        self,
        legs: list[Limb],
        soles: tuple[Sole, ...],
        arms: list[Limb],
        trunk: dict[str, tuple[int, ...]],
        front: np.ndarray,
    ) -> Body:
        ground = min((float(sole.point[1]) for sole in soles), default=self.lowest)
        movers = self._mover([leg.upper for leg in legs])
        left = np.cross(UP, front)
        placed = self._placed(legs, left, front)
        taken = {joint for limb in (*legs, *arms) for joint in limb.joints}
        trunk = {part: tuple(j for j in joints if j not in taken and j not in movers) for part, joints in trunk.items()}
        return Body(
            {part: trunk.get(part, ()) for part in ("spine", "neck", "head", "tail")},
            tuple(placed),
            tuple(self._placed(arms, left, front)),
            soles,
            movers,
            front,
            ground,
            self.height,
            self.positions,
        )

    def _placed(self, limbs: list[Limb], left: np.ndarray, front: np.ndarray) -> list[Limb]:
        """Limbs with their side by where they are, names may be those of the onlooker, and how far to the front."""
        if not limbs:
            return []
        places = self.positions[[limb.upper for limb in limbs]]
        across, along = places @ left, places @ front
        middle, low, span = across.mean(), along.min(), max(float(np.ptp(along)), 1e-9)
        level = np.ptp(along) > 0.05 * self.height
        return [
            replace(limb, side=1 if x > middle else -1, along=float((z - low) / span) if level else 0.0)
            for limb, x, z in zip(limbs, across, along, strict=True)
        ]
