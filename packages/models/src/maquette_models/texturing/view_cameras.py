"""Cameras around a mesh, as its pictures are taken and laid back on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from maquette.errors import MaquetteError

NEAR, FAR = 0.02, 4.0
"""Planes between which things are seen, in distances of the camera from the middle."""
_GOLDEN = math.pi * (3.0 - math.sqrt(5.0))


@dataclass(frozen=True)
class ViewCameras:
    """V perspective cameras of square pictures, all as far from the origin.

    Attributes:
        matrices: float32 [V,4,4], world to camera: x right, y down, z along the view.
        focal: focal length in halves of the picture's side.
        reach: distance from the origin.
    """

    matrices: Tensor
    focal: float
    reach: float

    def __len__(self) -> int:
        return len(self.matrices)

    def chosen(self, numbers: list[int]) -> ViewCameras:
        """Some of them."""
        return ViewCameras(self.matrices[numbers], self.focal, self.reach)

    def eyes(self) -> Tensor:
        """Where they stand, [V,3]."""
        turn, move = self.matrices[:, :3, :3], self.matrices[:, :3, 3]
        return -torch.einsum("vji,vj->vi", turn, move)

    def seen_at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points [P,3] lie in the pictures, [V,P,2] from -1 (left, top) to 1, and their depths along the views
        [V,P]."""
        local = torch.einsum("vij,pj->vpi", self.matrices[:, :3, :3], points) + self.matrices[:, None, :3, 3]
        depth = local[..., 2]
        return local[..., :2] * self.focal / depth.clamp(min=1e-6)[..., None], depth

    def clip(self, points: Tensor) -> Tensor:
        """Points [P,3] in the clip space of each picture, [V,P,4], for the rasteriser: row 0 is on top."""
        places, depth = self.seen_at(points)
        near, far = NEAR * self.reach, FAR * self.reach
        z = (depth * (far + near) - 2 * far * near) / (far - near)
        return torch.cat([places * depth[..., None], z[..., None], depth[..., None]], dim=-1)

    def pixel(self, size: int) -> float:
        """The side of a pixel at the origin, of pictures with so many a side."""
        return 2 * self.reach / (self.focal * size)


def around(directions: Tensor, fit: float, fov: float = 40.0) -> ViewCameras:
    """Cameras in directions [V,3] from the origin that see a sphere of radius `fit` round it; y is up.

    Args:
        directions: of any length but 0.
        fit: radius that all of them see.
        fov: degrees across the picture.

    Raises:
        MaquetteError: a radius or an angle that cannot be.
    """
    if not fit > 0 or not 0 < fov < 180:
        raise MaquetteError(f"cameras need a radius above 0 and an angle between 0 and 180, got {fit} and {fov}")
    half = math.radians(fov / 2)
    reach = fit / math.sin(half)
    back = directions.float() / directions.float().norm(dim=1, keepdim=True)
    level = torch.where(back[:, 1:2].abs() < 0.999, back.new_tensor([0.0, 1.0, 0.0]), back.new_tensor([0.0, 0.0, -1.0]))
    right = torch.linalg.cross(level, back)
    right = right / right.norm(dim=1, keepdim=True)
    matrices = torch.eye(4).repeat(len(back), 1, 1)
    matrices[:, :3, :3] = torch.stack([right, -torch.linalg.cross(back, right), -back], dim=1)
    matrices[:, 2, 3] = reach  # the eye is at `back * reach`, and looks at the origin
    return ViewCameras(matrices, 1 / math.tan(half), reach)


def spread(count: int, turn: float = 0.0) -> Tensor:
    """Directions [count,3] evenly over the sphere, the spiral of Vogel (1979) from below; `turn` in radians."""
    number = torch.arange(count, dtype=torch.float64)
    height = (2 * number + 1) / count - 1
    angle = turn + _GOLDEN * number
    flat = (1 - height**2).sqrt()
    return torch.stack([flat * angle.sin(), height, flat * angle.cos()], dim=1).float()
