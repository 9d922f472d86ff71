"""The points of a surface that an encoder reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

UNKNOWN = 0.5  # gray, where no colour is known


class SurfaceCloud(NamedTuple):
    """Points in the unit cube, in random order: `points` with `normals` and `colors` (sRGB in [0,1]), float32 [B,P,3],
    even over the surface; `sharp` with `sharp_normals`, [B,S,3], on its edges, where S may be 0."""

    points: Tensor
    normals: Tensor
    colors: Tensor
    sharp: Tensor
    sharp_normals: Tensor

    @classmethod
    def of_batch(cls, batch: Mapping[str, Any]) -> SurfaceCloud:
        """From the fields `surface`, `normals` and, where they are, `surface_color`, `sharp` and `sharp_normals`."""
        points = batch["surface"]
        none = points[:, :0]
        colors = batch["surface_color"] if "surface_color" in batch else torch.full_like(points, UNKNOWN)
        sharp = (batch.get(name, none) for name in ("sharp", "sharp_normals"))
        return cls(points, batch["normals"], colors, *sharp)
