"""Pictures laid back on the surface they show: what is hidden gets nothing, what is seen aslant counts little.

Weights by the fourth power of the cosine, less trust at edges of depth and a greedy choice of views are those of
Hunyuan3D-Paint (2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from maquette_models.texturing.view_cameras import ViewCameras
from maquette_models.texturing.view_maps import ViewMaps

SHARPNESS = 4
"""Power of the cosine between a point's normal and the direction to a camera."""
FLATTEST = 0.15
"""Cosine below which a view of a point is not used."""
AT_EDGE = 1e-3
"""What a pixel at an edge of depth counts, of one that is not: it is used where nothing else sees a point."""


@dataclass(frozen=True)
class SurfacePoints:
    """P points of a surface: float32 [P,3] positions and unit normals, and which are seen from both sides, bool [P]."""

    positions: Tensor
    normals: Tensor
    double_sided: Tensor


def cosines(points: SurfacePoints, cameras: ViewCameras, maps: ViewMaps) -> Tensor:
    """How straight each camera sees each point, [V,P]: the cosine to its normal, 0 where it sees it not.

    A point is seen where the depth map there reaches it, but for what a pixel's slope allows.

    Args:
        maps: of the whole mesh, as fine as visibility is to be told.
    """
    places, depth = cameras.seen_at(points.positions)
    toward = F.normalize(cameras.eyes()[:, None] - points.positions, dim=-1)
    cosine = (toward * points.normals).sum(dim=-1)
    cosine = torch.where(points.double_sided, cosine.abs(), cosine)
    nearest = sample(maps.depth[:, None], places, "nearest")[..., 0]
    slope = (1 - cosine.square()).clamp(min=0).sqrt() / cosine.clamp(min=FLATTEST)
    pixel = cameras.pixel(maps.depth.shape[-1]) * depth / cameras.reach
    reached = depth <= nearest + pixel * (1 + slope)
    inside = (places.abs() < 1).all(dim=-1) & (depth > 0)
    return torch.where(inside & reached & (cosine > FLATTEST), cosine, 0.0)


def laid_back(
    points: SurfacePoints, cameras: ViewCameras, maps: ViewMaps, pictures: Tensor, fine: ViewMaps
) -> tuple[Tensor, Tensor]:
    """What pictures show of points: values [P,C] and the weight [P] that they rest on, 0 where no picture shows any.

    Args:
        maps: of the pictures' own size.
        pictures: [V,C,S,S].
        fine: maps that visibility is told by.
    """
    channels = pictures.shape[1]
    total = pictures.new_zeros(len(points.positions), channels)
    weight = pictures.new_zeros(len(points.positions))
    trust = AT_EDGE + (1 - AT_EDGE) * (~depth_edges(maps.depth, cameras)).float()
    for view in range(len(cameras)):
        one = cameras.chosen([view])
        cosine = cosines(points, one, at(fine, view))[0]
        seen = cosine.nonzero().squeeze(1)
        if not len(seen):
            continue
        own = SurfacePoints(points.positions[seen], points.normals[seen], points.double_sided[seen])
        values, support = _interpolated(own, one, at(maps, view), pictures[view], trust[view])
        share = cosine[seen] ** SHARPNESS * support
        total[seen] += values * share[:, None]
        weight[seen] += share
    return total / weight.clamp(min=1e-12)[:, None], weight


def depth_edges(depth: Tensor, cameras: ViewCameras) -> Tensor:
    """Pixels beside a jump of depth, or beside nothing, bool [V,S,S]: their colours may be mixed with what is behind.

    A jump is one of more than what a surface at 80 degrees to the picture has from a pixel to the next.
    """
    pixel = cameras.pixel(depth.shape[-1])
    filled = torch.where(depth.isinf(), 1e3, depth)[:, None]
    farthest = F.max_pool2d(filled, 3, stride=1, padding=1)
    nearest = -F.max_pool2d(-filled, 3, stride=1, padding=1)
    return ((farthest - nearest) > 12 * pixel)[:, 0]


def sample(maps: Tensor, places: Tensor, mode: str) -> Tensor:
    """Maps [V,C,S,S] at places [V,P,2] from -1 to 1: [V,P,C]."""
    found = F.grid_sample(maps, places[:, :, None], mode=mode, padding_mode="border", align_corners=False)
    return found[..., 0].movedim(1, 2)


def at(maps: ViewMaps, view: int) -> ViewMaps:
    """The maps of one view alone."""
    own = (maps.face, maps.barycentric, maps.depth, maps.position, maps.normal)
    return ViewMaps(*(values[view : view + 1] for values in own))


def _interpolated(
    points: SurfacePoints, camera: ViewCameras, maps: ViewMaps, picture: Tensor, trust: Tensor
) -> tuple[Tensor, Tensor]:
    """A picture [C,S,S] at points that it shows, between the four pixels around each: values [P,C], weight [P].

    Of the four count those that see the surface near the point, so that nothing bleeds over outlines.
    """
    size = picture.shape[-1]
    places, depth = camera.seen_at(points.positions)
    at_pixel = (places[0] + 1) * (size / 2) - 0.5
    corner = at_pixel.floor()
    reach = 3 * camera.pixel(size) * depth[0] / camera.reach
    total = picture.new_zeros(len(corner), len(picture))
    weight = picture.new_zeros(len(corner))
    for right in (0, 1):
        for down in (0, 1):
            step = corner.new_tensor([right, down])
            column, row = (corner + step).long().clamp(0, size - 1).unbind(dim=1)
            share = (1 - (at_pixel - corner - step).abs()).prod(dim=1)
            away = (maps.position[0, :, row, column].T - points.positions).norm(dim=1)
            near = maps.covered[0, row, column] & (away < reach)
            share = share * near * trust[row, column]
            total += picture[:, row, column].T * share[:, None]
            weight += share
    return total / weight.clamp(min=1e-12)[:, None], weight
