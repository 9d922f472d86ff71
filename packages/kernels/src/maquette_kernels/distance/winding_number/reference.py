"""``winding_number`` as one would write it down: the sum of the solid angles of all triangles."""

from __future__ import annotations

import torch
from torch import Tensor


def reference(points: Tensor, vertices: Tensor, faces: Tensor, accuracy: float) -> Tensor:
    """Winding numbers [P], exact whatever the accuracy; see the public function.

    Source: solid angles by van Oosterom and Strackee 1983.
    """
    corners = vertices[faces.long()]
    corners = torch.where(corners.isfinite().flatten(1).all(1)[:, None, None], corners, 0.0)
    a, b, c = (corners[None] - points[:, None, None]).unbind(2)
    # The volume by the edges, whose lengths do not grow with the distance.
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    volume = (a * normals).sum(-1)
    la, lb, lc = a.norm(dim=-1), b.norm(dim=-1), c.norm(dim=-1)
    whole = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (a * c).sum(-1) * lb
    angles = torch.where(volume == 0, 0.0, torch.atan2(volume, whole))
    number = angles.sum(1) / (2 * torch.pi)
    return torch.where(points.isfinite().all(1), number, float("nan"))
