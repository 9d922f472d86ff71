"""``closest_on_mesh`` as one would write it down: every triangle is asked for its own nearest point."""

from __future__ import annotations

import torch
from torch import Tensor

EDGES = ((0, 1), (0, 2), (1, 2))


def reference(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance [P], face int32 [P] and barycentric weights [P, 3] of the nearest point; see the public function."""
    distance, face, weights, _ = _answers(points, vertices, faces)
    return distance, face, weights


def residuals(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor]:
    """The direction [P, 3] from the nearest point to each point, of length 1, or 0 on the surface."""
    return (_answers(points, vertices, faces)[3].detach(),)


def _answers(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if not len(faces):
        nothing = torch.full_like(points[:, 0], float("inf"))
        distance = torch.where(points.isfinite().all(1), nothing, float("nan"))
        return distance, torch.full_like(distance, -1, dtype=torch.int32), 0 * points.detach(), 0 * points.detach()
    corners = vertices[faces.long()]
    squared, weights = _candidates(points.detach(), corners.detach())
    usable = corners.detach().isfinite().flatten(1).all(1)
    squared = torch.where(usable[None, :, None], squared, float("inf")).flatten(1)
    least, place = squared.min(1)
    sound = points.isfinite().all(1)
    found = sound & least.isfinite()
    face = place // weights.shape[2]
    chosen = torch.where(found[:, None], weights.flatten(1, 2)[torch.arange(len(points)), place], 0.0)
    offset = points - (chosen[:, :, None] * corners[face]).sum(1)
    away = found & (offset != 0).any(1)
    length = torch.where(away[:, None], offset, 1.0).norm(dim=1)
    distance = torch.where(away, length, torch.where(found, 0.0, torch.where(sound, float("inf"), float("nan"))))
    direction = torch.where(away[:, None], offset / length[:, None], 0.0)
    return distance, torch.where(found, face, -1).int(), chosen, direction


def _candidates(points: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances [P, F, 4] to, and weights [P, F, 4, 3] of, the nearest points of each triangle's edges and
    the foot on its plane (infinitely far where it is outside the triangle).
    """
    feet = [_on_edge(points, corners, i, j) for i, j in EDGES]
    plane, inside = _on_plane(points, corners)
    weights = torch.stack([*feet, plane], 2)
    reached = torch.einsum("pfkc,fcd->pfkd", weights, corners)
    squared = (points[:, None, None] - reached).square().sum(-1)
    squared[:, :, 3] = torch.where(inside, squared[:, :, 3], float("inf"))
    return torch.where(squared.isfinite(), squared, float("inf")), weights


def _on_edge(points: Tensor, corners: Tensor, i: int, j: int) -> Tensor:
    edge = corners[:, j] - corners[:, i]
    length = edge.square().sum(-1)
    along = torch.einsum("pfd,fd->pf", points[:, None] - corners[:, i], edge)
    share = torch.where(length > 0, along / torch.where(length > 0, length, 1.0), 0.0).clamp(0, 1)
    weights = share.new_zeros(*share.shape, 3)
    weights[..., i], weights[..., j] = 1 - share, share
    return weights


def _on_plane(points: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    edges = torch.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 1)
    gram = torch.einsum("fid,fjd->fij", edges, edges)
    along = torch.einsum("pfd,fid->pfi", points[:, None] - corners[:, 0], edges)
    determinant = gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] * gram[:, 1, 0]
    flat = determinant <= 0
    scale = torch.where(flat, 0.0, 1 / torch.where(flat, 1.0, determinant))
    s = (gram[:, 1, 1] * along[..., 0] - gram[:, 0, 1] * along[..., 1]) * scale
    t = (gram[:, 0, 0] * along[..., 1] - gram[:, 0, 1] * along[..., 0]) * scale
    return torch.stack([1 - s - t, s, t], -1), (s > 0) & (t > 0) & (s + t < 1) & ~flat
