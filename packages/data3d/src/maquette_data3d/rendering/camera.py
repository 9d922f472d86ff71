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
        helper = np.array([0.0, 1.0, 0.0]) if abs(backward[1]) < 0.999 else np.array([0.0, 0.0, -1.0])
        right = np.cross(helper, backward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(backward, right), backward])
        return rotation, np.asarray(self.target, float) + backward * self.reach()

    def reach(self) -> float:
        """Distance from the target to the eye."""
        return self.distance or self.fit / math.sin(math.radians(self.fov / 2))

    def focal(self) -> float:
        """Focal length in units of half the picture's height."""
        return 1.0 / math.tan(math.radians(self.fov / 2))

    def matrix(self) -> np.ndarray:
        """World to camera, float64 [4, 4], in the axes of computer vision: x right, y down, z along the view.

        A point's third coordinate is its depth, and `intrinsics` takes the three to the picture.
        """
        rotation, eye = self.pose()
        turned = rotation * np.array([[1.0], [-1.0], [-1.0]])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turned, -turned @ eye
        return matrix

    def intrinsics(self, size: int) -> np.ndarray:
        """Camera to pixels, float64 [3, 3]: (column, row, 1) * depth = intrinsics @ point.

        The middle of the first pixel is (0.5, 0.5), the picture's middle is (size / 2, size / 2).
        """
        focal = self.focal() * size / 2
        return np.array([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
