"""Set-ups of light for pictures of an object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from maquette.errors import MaquetteError

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Lamp:
    """A light from far away.

    Args:
        azimuth, elevation: degrees, where it stands, as of a camera.
        color: linear light; a white wall that faces a lamp of 1.0 is white.
    """

    azimuth: float
    elevation: float
    color: Color

    def direction(self) -> np.ndarray:
        """Unit vector [3] towards the lamp."""
        azimuth, elevation = math.radians(self.azimuth), math.radians(self.elevation)
        level = math.cos(elevation)
        return np.array([math.sin(azimuth) * level, math.sin(elevation), math.cos(azimuth) * level])


@dataclass(frozen=True)
class Lights:
    """Lamps that stand still while the camera moves, under a dome.

    Args:
        lamps: the first throws a shadow.
        sky, ground: linear light of the dome above and below.
        shadow: how much of the first lamp's light a shadow takes, in [0, 1].
        soft: width of the shadow's edge in the unit cube.
    """

    lamps: tuple[Lamp, ...]
    sky: Color
    ground: Color
    shadow: float = 0.85
    soft: float = 0.03


class Lighting(NamedTuple):
    """Lights as compiled code reads them: directions and colours float64 [L, 3], the dome's colours [2, 3]."""

    directions: np.ndarray
    colors: np.ndarray
    dome: np.ndarray


SETUPS: dict[str, Lights | None] = {
    "studio": Lights(
        (Lamp(-35.0, 50.0, (1.0, 0.97, 0.92)), Lamp(70.0, 15.0, (0.22, 0.24, 0.28)), Lamp(180.0, 35.0, (0.3,) * 3)),
        sky=(0.42, 0.44, 0.47),
        ground=(0.24, 0.22, 0.20),
        shadow=0.8,
    ),
    "sun": Lights(
        (Lamp(40.0, 58.0, (1.35, 1.25, 1.05)),),
        sky=(0.27, 0.34, 0.46),
        ground=(0.16, 0.14, 0.11),
        shadow=1.0,
        soft=0.01,
    ),
    "flat": None,
}
"""By name: a photographer's three lamps, the sun under a blue sky, and none at all (the base colour as it is)."""


def lights_of(lights: str | Lights | None) -> Lights | None:
    """A set-up by its name; lights themselves stay as they are.

    Raises:
        MaquetteError: no such set-up.
    """
    if not isinstance(lights, str):
        return lights
    if lights not in SETUPS:
        raise MaquetteError(f"there is no light '{lights}'; there are: {', '.join(SETUPS)}")
    return SETUPS[lights]


def lighting(lights: Lights) -> Lighting:
    """Lights for compiled code."""
    directions = np.array([lamp.direction() for lamp in lights.lamps]).reshape(-1, 3)
    colors = np.array([lamp.color for lamp in lights.lamps], np.float64).reshape(-1, 3)
    return Lighting(directions, colors, np.array([lights.sky, lights.ground], np.float64))
