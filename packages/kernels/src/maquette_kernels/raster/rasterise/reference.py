"""The obvious code for ``rasterise``: one face after the other over the whole picture."""

# Implementations take all arguments by position, as torch's operators do.
from __future__ import annotations

import math

import torch
from torch import Tensor

Corner = list[float]


def reference(positions: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the corners of the face that each pixel sees, its depth, and which it is; as in ``ops.rasterise``."""
    seen = [_seen(clip.detach().double(), faces, height, width) for clip in positions]
    face_id = torch.stack(seen) if seen else faces.new_empty(0, height, width)
    batch = torch.arange(positions.shape[0], device=positions.device)[:, None, None, None]
    if not len(faces):
        nothing = positions.new_zeros(*face_id.shape, 3)
        return nothing, nothing[..., 0] + 1, face_id
    corners = positions.double()[batch, faces[face_id.clamp(min=0).long()].long()]  # [B, H, W, 3, 4]
    weights = _weights(corners, height, width)
    z, w = ((weights * corners[..., axis]).sum(-1) for axis in (2, 3))
    hit = face_id >= 0
    depth = torch.where(hit, z / torch.where(hit, w, 1.0), 1.0)
    weights = torch.where(hit[..., None], weights, 0.0)
    return weights.to(positions.dtype), depth.to(positions.dtype), face_id


def _weights(corners: Tensor, height: int, width: int) -> Tensor:
    """Perspective-correct weights: those that make the face's point lie on the ray, found as determinants."""
    rows = ((torch.arange(height, device=corners.device) * 2 + 1).double() / max(height, 1) - 1)[:, None, None]
    columns = ((torch.arange(width, device=corners.device) * 2 + 1).double() / max(width, 1) - 1)[:, None]
    x, y = corners[..., 0] - columns * corners[..., 3], corners[..., 1] - rows * corners[..., 3]
    areas = x.roll(-1, -1) * y.roll(-2, -1) - y.roll(-1, -1) * x.roll(-2, -1)
    total = areas.sum(-1, keepdim=True)
    weights = areas / torch.where(total == 0, 1.0, total)
    # The seen face is that of rounded corners: a pixel may lie beside the true one by 1/512 of a pixel.
    kept = weights.detach().clamp(min=0)
    kept = torch.where(total == 0, 1 / 3, kept / kept.sum(-1, keepdim=True).clamp(min=1e-30))
    sound = ((weights.detach() >= -0.5) & (total != 0)).all(-1, keepdim=True)
    return torch.where(sound, kept + (weights - weights.detach()), kept)


def _seen(clip: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """The face that each pixel sees, int32 [H, W]: the nearest, of equally near ones the first."""
    face_id = torch.full((height, width), -1, dtype=torch.int32, device=faces.device)
    nearest = torch.full((height, width), 2**31, dtype=torch.long, device=faces.device)
    points = clip.tolist()
    for face, corners in enumerate(faces.tolist()):
        polygon = _clipped([points[corner] for corner in corners], height, width)
        for i in range(1, len(polygon) - 1):
            covered, depth = _cover([polygon[0], polygon[i], polygon[i + 1]], nearest, height, width)
            closer = covered & (depth < nearest) & (depth <= 2**30)
            nearest, face_id = torch.where(closer, depth, nearest), torch.where(closer, face, face_id)
    return face_id


def _cover(corners: list[Corner], like: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which pixels' middles a triangle covers, bool [H, W], and its depth there in steps, int64 [H, W]."""
    screen = [
        (
            math.floor((x / w + 1) * (0.5 * width) * 256 + 0.5),
            math.floor((y / w + 1) * (0.5 * height) * 256 + 0.5),
            z / w,
        )
        for x, y, z, w in corners
    ]
    area = _double_area(screen)
    if area < 0:
        screen, area = [screen[0], screen[2], screen[1]], -area
    if area == 0:
        return torch.zeros_like(like, dtype=torch.bool), like
    rows = (torch.arange(height, device=like.device) * 256 + 128)[:, None]
    columns = torch.arange(width, device=like.device) * 256 + 128
    covered, shares = torch.ones_like(like, dtype=torch.bool), []
    for (x0, y0, _), (x1, y1, _) in zip(screen, screen[1:] + screen[:1], strict=True):
        beside = (x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0)
        top_or_left = y1 < y0 or (y1 == y0 and x1 > x0)
        covered = covered & ((beside > 0) | ((beside == 0) & top_or_left))
        shares.append(beside.double() / area)
    first, second, third = (corner[2] for corner in screen)
    depth = first + (shares[2] * (second - first) + shares[0] * (third - first))
    return covered, ((depth + 1) * 2.0**29 + 0.5).floor().clamp(min=0, max=2.0**31).long()


def _double_area(screen: list[tuple[int, int, float]]) -> int:
    (ax, ay, _), (bx, by, _), (cx, cy, _) = screen
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def _clipped(polygon: list[Corner], height: int, width: int) -> list[Corner]:
    """What is left of a polygon in front of the near plane and not far beside the picture."""
    if not all(math.isfinite(value) for corner in polygon for value in corner):
        return []
    for plane in range(5):
        kept = []
        for here, there in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            a, b = (_distance(corner, plane, height, width) for corner in (here, there))
            if a >= 0:
                kept.append(here)
            if (a >= 0) != (b >= 0):
                inner, outer, a, b = (here, there, a, b) if a >= 0 else (there, here, b, a)
                kept.append([p + (a / (a - b)) * (q - p) for p, q in zip(inner, outer, strict=True)])
        polygon = kept
    return polygon if all(corner[3] > 0 for corner in polygon) else []


def _distance(corner: Corner, plane: int, height: int, width: int) -> float:
    x, y, z, w = corner
    reach = float(2**19 // max(height, width, 1))
    return (z + w, w * reach - x, w * reach + x, w * reach - y, w * reach + y)[plane]
