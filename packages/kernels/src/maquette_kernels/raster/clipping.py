"""Cuts triangles at the near plane and far beside the picture (Sutherland and Hodgman 1974), all of them at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maquette_kernels.raster.screen import Screen, distances, is_safe, project

_CORNERS = 8
"""Corners that a triangle cut by five planes can have."""


class Triangles(NamedTuple):
    """What is drawn: ``corners`` int32 [M, 3] into the vertices of a screen, and the face each belongs to, int32 [M]
    (empty where they are the faces themselves, in order).
    """

    corners: Tensor
    owners: Tensor


def visible_triangles(clip: Tensor, faces: Tensor, height: int, width: int) -> tuple[Screen, Triangles]:
    """The vertices on the screen and the triangles to draw; where faces are cut, new vertices and triangles follow.

    Args:
        clip: float64 [V, 4]; faces: int32 [F, 3].
    """
    screen = project(clip, is_safe(clip, height, width), height, width)
    corners = faces.long()
    cut = (~screen.safe[corners]).any(-1).nonzero().squeeze(-1)
    whole = Triangles(faces, faces.new_empty(0))
    if not len(cut):
        return screen, whole
    polygons, counts = cut_polygons(clip[corners[cut]], height, width)
    pieces, owners = _fan(counts, cut, len(clip))
    points = polygons.reshape(-1, 4)
    more = project(points, points[:, 3] > 0, height, width)  # what is left lies inside every plane but for rounding
    together = Screen(*(torch.cat([a, b]) for a, b in zip(screen, more, strict=True)))
    every = torch.arange(len(faces), dtype=torch.int32, device=faces.device)
    return together, Triangles(torch.cat([faces, pieces]), torch.cat([every, owners]))


def cut_polygons(triangles: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What is left of triangles [N, 3, 4] after cutting: corners [N, 8, 4] and their number int64 [N]."""
    count = triangles.new_full((len(triangles),), 3, dtype=torch.long)
    count = torch.where(triangles.isfinite().all(-1).all(-1), count, 0)
    polygon = triangles.new_zeros(len(triangles), _CORNERS, 4)
    polygon[:, :3] = triangles.nan_to_num()
    for plane in range(5):
        polygon, count = _cut(polygon, count, plane, height, width)
    beyond = torch.arange(_CORNERS, device=count.device) >= count[:, None]
    return polygon, torch.where(((polygon[..., 3] > 0) | beyond).all(-1), count, 0)


def _cut(polygon: Tensor, count: Tensor, plane: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """One plane: each corner inside stays; where a side crosses, the crossing follows, found from the inner end."""
    place = torch.arange(_CORNERS, device=polygon.device)
    live = place < count[:, None]
    following = torch.where(place + 1 < count[:, None], place + 1, 0)
    away = distances(polygon, height, width)[plane]
    after, away_after = _take(polygon, following), away.gather(1, following)
    inside, inside_after = away >= 0, away_after >= 0
    inner = torch.where(inside[..., None], polygon, after)
    outer = torch.where(inside[..., None], after, polygon)
    away_in, away_out = torch.where(inside, away, away_after), torch.where(inside, away_after, away)
    crossing = inner + (away_in / (away_in - away_out))[..., None] * (outer - inner)
    stays, crosses = live & inside, live & (inside != inside_after)
    emitted = torch.stack([stays, crosses], -1).flatten(1)
    target = torch.where(emitted, emitted.cumsum(1) - 1, _CORNERS).clamp(max=_CORNERS)
    points = torch.stack([polygon, crossing], 2).flatten(1, 2)
    out = polygon.new_zeros(len(polygon), _CORNERS + 1, 4)
    out.scatter_(1, target[..., None].expand(-1, -1, 4), points)
    return out[:, :_CORNERS], emitted.sum(1).clamp(max=_CORNERS)


def _take(polygon: Tensor, place: Tensor) -> Tensor:
    return polygon.gather(1, place[..., None].expand(-1, -1, 4))


def _fan(counts: Tensor, cut: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Triangles around the first corner of each polygon, int32 [M, 3], and the faces they belong to."""
    step = torch.arange(1, _CORNERS - 1, device=counts.device)
    wanted = step + 1 < counts[:, None]
    which, turn = wanted.nonzero().unbind(-1)
    start = first + which * _CORNERS
    corners = torch.stack([start, start + turn + 1, start + turn + 2], -1)
    return corners.to(torch.int32), cut[which].to(torch.int32)
