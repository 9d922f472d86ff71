"""Walking and running on any even number of legs: which foot stands when, and its way through the air."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maquette_data3d.animation.body import Limb
from maquette_data3d.animation.motion import FootMotion

_FRONT = 0.5  # legs that are farther to the front than this are forelegs


@dataclass(frozen=True)
class Gait:
    """How legs take turns.

    Attributes:
        duty: share of the cycle that a foot stands.
        stride: how far it goes back while it stands, lift: how high it goes in the air, in lengths of a leg.
        pitch: degrees that the toes point down half way through the air.
        lag: of forelegs behind the hind leg of their side, as a share of the cycle.
    """

    duty: float
    stride: float
    lift: float
    pitch: float
    lag: float = 0.25

    @property
    def travel(self) -> float:
        """Lengths of a leg that the body goes in one cycle."""
        return self.stride / self.duty

    def feet(self, phase: np.ndarray, legs: Sequence[Limb]) -> tuple[FootMotion, ...]:
        """The ways of all feet at phases [T]."""
        return tuple(self.foot((phase - start) % 1.0) for start in self.starts(legs))

    def starts(self, legs: Sequence[Limb]) -> list[float]:
        """When each leg touches down, as a share of the cycle: sides by halves, forelegs after the hind legs, and of
        six and more legs every other one together."""
        if len(legs) <= 4:
            return [(0.0 if leg.side > 0 else 0.5) + (self.lag if leg.along > _FRONT else 0.0) for leg in legs]
        found = [0.0] * len(legs)
        for side in (1, -1):
            own = sorted((place for place, leg in enumerate(legs) if leg.side == side), key=lambda p: legs[p].along)
            for rank, place in enumerate(own):
                found[place] = 0.5 * ((rank + (side > 0)) % 2)
        return found

    def foot(self, phase: np.ndarray) -> FootMotion:
        """One foot's way at phases [T] since it touched down.

        It lands and lifts off with the speed of the ground, and without any speed upwards.
        """
        stands = phase < self.duty
        air = np.clip((phase - self.duty) / (1 - self.duty), 0.0, 1.0)
        slope = -(1 - self.duty) / self.duty
        ahead = np.where(stands, 0.5 - phase / self.duty, _hermite(air, -0.5, 0.5, slope))
        rise = np.sin(np.pi * air) ** 2
        path = np.stack([np.zeros_like(phase), self.lift * rise, self.stride * ahead], 1)
        return FootMotion(path, self.pitch * rise * np.cos(np.pi * air), stands)


def _hermite(t: np.ndarray, start: float, stop: float, slope: float) -> np.ndarray:
    """A cubic from `start` to `stop` with one slope at both ends."""
    bend = 3 * t**2 - 2 * t**3
    return start + (stop - start) * bend + slope * (2 * t**3 - 3 * t**2 + t)
