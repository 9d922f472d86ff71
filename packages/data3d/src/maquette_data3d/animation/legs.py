"""Legs that reach for a place: two-bone inverse kinematics in closed form (law of cosines)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette_data3d.animation.body import UP, Body, Limb, Sole
from maquette_data3d.animation.turning import frame, in_plane, unit

STRAIGHT = 0.998  # of a leg's length: the farthest that it is stretched
_BENT = 0.02  # of a leg's length: how far a knee is off the line at rest for that to say where it points


@dataclass(frozen=True)
class LegPose:
    """Turns from rest [T, 3, 3] of the two bones and of the foot, and places [T, 3] of knee and ankle."""

    upper: np.ndarray
    lower: np.ndarray
    foot: np.ndarray
    knee: np.ndarray
    ankle: np.ndarray


@dataclass(frozen=True)
class Leg:
    """A leg's measures at rest.

    Attributes:
        limb, sole: what it is made of.
        hip, knee, ankle: float64 [3]; the ankle is the sole's point where the leg has no joint there.
        pole: unit vector [3] that the knee points to.
    """

    limb: Limb
    sole: Sole
    hip: np.ndarray
    knee: np.ndarray
    ankle: np.ndarray
    pole: np.ndarray

    @classmethod
    def of(cls, body: Body, number: int) -> Leg:
        """Leg `number` of a body. A straight one bends to the front, forelegs to the back."""
        limb, sole = body.legs[number], body.soles[number]
        hip, knee = body.positions[limb.upper], body.positions[limb.lower]
        ankle = sole.point if limb.end is None else body.positions[limb.end]
        along = unit(ankle - hip)
        off = (knee - hip) - ((knee - hip) @ along) * along
        bent = np.linalg.norm(off) > _BENT * np.linalg.norm(ankle - hip)
        fore = len(body.legs) > 2 and limb.along > 0.5
        return cls(limb, sole, hip, knee, ankle, unit(off) if bent else (-body.front if fore else body.front))

    @property
    def bones(self) -> tuple[float, float]:
        """Lengths of the upper and the lower bone."""
        return float(np.linalg.norm(self.knee - self.hip)), float(np.linalg.norm(self.ankle - self.knee))

    @property
    def longest(self) -> float:
        """The farthest from the hip that the ankle is stretched; never less than at rest."""
        return max(STRAIGHT * sum(self.bones), min(float(np.linalg.norm(self.ankle - self.hip)), sum(self.bones)))

    def ankle_at(self, sole: np.ndarray, foot: np.ndarray) -> np.ndarray:
        """Where the ankle [T, 3] is when the sole is at [T, 3] and the foot turned by [T, 3, 3]."""
        if self.limb.end is None:
            return sole
        return sole + foot @ (self.ankle - self.sole.point)

    def solve(self, hip: np.ndarray, ankle: np.ndarray, foot: np.ndarray, carried: np.ndarray) -> LegPose:
        """The pose that takes the ankle from the hip [T, 3] to [T, 3], or as near as it can.

        Args:
            foot: turn [T, 3, 3] of the foot.
            carried: turn [T, 3, 3] of the trunk, which takes the knee's direction with it about the vertical.
        """
        upper, lower = self.bones
        way = ankle - hip
        distance = np.clip(np.linalg.norm(way, axis=1), abs(upper - lower) * 1.001 + 1e-9, self.longest)
        way = unit(way)
        pole = carried @ self.pole
        pole = unit(pole - (pole @ UP)[:, None] * UP + (self.pole @ UP) * UP)
        axes = frame(way, pole)
        along = (upper**2 - lower**2 + distance**2) / (2 * distance)
        out = np.sqrt(np.maximum(upper**2 - along**2, 0.0))
        knee = hip + along[:, None] * axes[..., 0] + out[:, None] * axes[..., 1]
        end = hip + distance[:, None] * way
        # Both bones turn with the plane of the leg, so that neither twists about itself.
        plane, at_rest = np.cross(way, pole), np.cross(unit(self.ankle - self.hip), self.pole)
        turns = [
            in_plane(now, plane) @ in_plane(before, at_rest).T
            for now, before in ((knee - hip, self.knee - self.hip), (end - knee, self.ankle - self.knee))
        ]
        return LegPose(turns[0], turns[1], turns[1] if self.limb.end is None else foot, knee, end)
