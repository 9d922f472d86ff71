"""What a clip needs to know of a skinned mesh: its limbs, its trunk, where its front is and how tall it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Mesh, Skeleton, Skin

UP = np.array([0.0, 1.0, 0.0])
_SOLE = 0.03  # of the height: how far above a leg's lowest vertex its sole reaches
_MOST_SOLE = 512
_FLOATING = 0.12  # of the height: the most that feet may be above the lowest vertex of all


@dataclass(frozen=True)
class Limb:
    """An arm or a leg: places of its joints.

    Attributes:
        upper: the joint of shoulder or hip; lower: of elbow or knee.
        end: of wrist or ankle, None where the lower bone is the last. It need not hang below `lower`: many rigs hang
            feet on their root.
        side: 1 on the left, -1 on the right, 0 where it is in the middle.
        along: of a leg, how far to the front it is among the legs, from 0, the hindmost, to 1.
    """

    upper: int
    lower: int
    end: int | None
    side: int
    along: float = 0.0

    @property
    def joints(self) -> tuple[int, ...]:
        """From the trunk outwards."""
        return (self.upper, self.lower) if self.end is None else (self.upper, self.lower, self.end)


@dataclass(frozen=True)
class Sole:
    """What a leg stands on: `vertices` int64 [S] that are near the ground, and `point` float64 [3], their middle at
    the height of the lowest."""

    vertices: np.ndarray
    point: np.ndarray


@dataclass(frozen=True)
class Body:
    """Roles of a skeleton's joints, and measures in the mesh's units.

    Attributes:
        trunk: "spine", "neck", "head" and "tail", each joints one after the other from the hips outwards.
        legs, arms: the limbs; soles: one a leg.
        movers: joints that carry all that is not a leg: the hips, or every root.
        front: unit vector [3], level; left: unit vector [3].
        ground: height of the soles; height: of the mesh.
        positions: float64 [J, 3] of the joints at rest.
    """

    trunk: dict[str, tuple[int, ...]]
    legs: tuple[Limb, ...]
    arms: tuple[Limb, ...]
    soles: tuple[Sole, ...]
    movers: tuple[int, ...]
    front: np.ndarray
    ground: float
    height: float
    positions: np.ndarray

    @property
    def left(self) -> np.ndarray:
        """Unit vector [3]."""
        return np.cross(UP, self.front)

    @property
    def axes(self) -> np.ndarray:
        """float64 [3, 3]: columns left, up, front."""
        return np.stack([self.left, UP, self.front], 1)

    @property
    def pivot(self) -> np.ndarray:
        """The point [3] that the trunk tilts about: between the hips, or the first mover."""
        hips = [leg.upper for leg in self.legs] or [self.movers[0]]
        return self.positions[hips].mean(0)

    @property
    def reach(self) -> float:
        """Mean height of the hips over the soles; half the height where there are no legs."""
        if not self.legs:
            return self.height / 2
        rise = [self.positions[leg.upper][1] - sole.point[1] for leg, sole in zip(self.legs, self.soles, strict=True)]
        return float(np.mean(rise))


def descendants(skeleton: Skeleton, roots: tuple[int, ...]) -> np.ndarray:
    """bool [J]: the joints `roots` and all below them."""
    below = np.zeros(len(skeleton.names), bool)
    below[list(roots)] = True
    for place, parent in enumerate(skeleton.parents):
        below[place] |= parent >= 0 and below[parent]
    return below


def skin_of(mesh: Mesh) -> Skin:
    """The skin of a mesh.

    Raises:
        MaquetteError: it has none.
    """
    if mesh.skin is None:
        raise MaquetteError("the mesh has no skeleton; rig it first, e.g. maquette rig RUN --mesh FILE --out FILE")
    return mesh.skin


def heaviest_joints(skin: Skin) -> np.ndarray:
    """int64 [V]: the joint that holds each vertex most, -1 where none does."""
    strongest = skin.weights.argmax(1)
    rows = np.arange(len(strongest))
    return np.where(skin.weights[rows, strongest] > 0, skin.joints[rows, strongest], -1)


def sole_of(mesh: Mesh, leg: Limb, heaviest: np.ndarray, height: float) -> Sole:
    """The sole of a leg: vertices of its last bone near its lowest one; the last joint itself where it has none."""
    skin = skin_of(mesh)
    below = descendants(skin.skeleton, (leg.joints[-1],))
    own = np.flatnonzero((heaviest >= 0) & below[heaviest])
    if not len(own):
        return Sole(own, np.asarray(skin.skeleton.rest[leg.joints[-1], :3, 3], np.float64))
    heights = mesh.vertices[own, 1]
    own = own[heights <= heights.min() + _SOLE * height]
    own = own[np.argsort(mesh.vertices[own, 1], kind="stable")][:_MOST_SOLE]
    points = mesh.vertices[own].astype(np.float64)
    middle = (points.min(0) + points.max(0)) / 2
    return Sole(own, np.array([middle[0], points[:, 1].min(), middle[2]]))


def standing(soles: tuple[Sole, ...], lowest: float, height: float) -> bool:
    """Whether legs with these soles carry the body: the lowest of them is near the lowest vertex of all."""
    return bool(soles) and min(sole.point[1] for sole in soles) <= lowest + _FLOATING * height
