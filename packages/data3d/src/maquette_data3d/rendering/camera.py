"""Where a picture is taken from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at a target from a sphere around it.

    Args:
        azimuth: degrees around the y axis; 0 looks at the front (+z), 90 at the right side (+x).
        elevation: degrees above the horizon.
        fov: vertical field of view in degrees.
        distance: from the target; None fits a sphere of radius `fit` into the picture.
        target: the point in the middle of the picture.
        fit: radius that has to be seen; the unit cube's normalised shapes fit into 0.67 from most sides.
    """

    azimuth: float = 35.0
    elevation: float = 22.0
    fov: float = 30.0
    distance: float | None = None
    target: Vector = (0.0, 0.0, 0.0)
    fit: float = 0.67

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotation [3, 3] (rows: right, up, backward) and eye position [3], float64."""
        azimuth, elevation = math.radians(self.azimuth), math.radians(self.elevation)
        backward = np.array(
            [
                math.sin(azimuth) * math.cos(elevation),
                math.sin(elevation),
                math.cos(azimuth) * math.cos(elevation),
            ]
        )
        distance = self.distance or self.fit / math.sin(math.radians(self.fov / 2))
        helper = np.array([0.0, 1.0, 0.0]) if abs(backward[1]) < 0.999 else np.array([0.0, 0.0, -1.0])
        right = np.cross(helper, backward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(backward, right), backward])
        return rotation, np.asarray(self.target, float) + backward * distance

    def focal(self) -> float:
        """Focal length in units of half the picture's height."""
        return 1.0 / math.tan(math.radians(self.fov / 2))
