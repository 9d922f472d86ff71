"""``inside_mesh`` as one would write it down."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.distance.winding_number.reference import reference as winding_number


def reference(points: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Whether the winding number is over one half, bool [P]; what lies outside the mesh's box is not inside."""
    return (winding_number(points, vertices, faces, 0.0) > 0.5) & within_box(points, vertices, faces)


def within_box(points: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Whether points lie in the box of the faces' corners, its border included, bool [P]; no faces, no box."""
    if not len(faces):
        return torch.zeros_like(points[:, 0], dtype=torch.bool)
    corners = vertices[faces.long()]
    usable = corners.isfinite().flatten(1).all(1)[:, None, None]
    low = torch.where(usable, corners, float("inf")).flatten(0, 1).amin(0)
    high = torch.where(usable, corners, float("-inf")).flatten(0, 1).amax(0)
    return ((points >= low) & (points <= high)).all(1)
