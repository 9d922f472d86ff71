"""Colours for points that no picture shows, from seen points of the same side of the surface nearby."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from maquette_models.texturing.view_projection import SurfacePoints

NEIGHBOURS = 8
FACING = 0.25
"""How far apart two opposite normals put two points, in the units of the positions: the two sides of a sheet are not
neighbours."""


def inpaint_surface(points: SurfacePoints, values: Tensor, seen: Tensor) -> Tensor:
    """Values [P,C] as they are where `seen` bool [P], elsewhere a mean of the nearest seen points' by distance.

    Near is told by position and normal together. Where nothing is seen the values stay.
    """
    if not bool(seen.any()) or bool(seen.all()):
        return values
    places = torch.cat([points.positions, points.normals * (FACING / 2)], dim=1).double().numpy()
    known, missing = seen.numpy(), ~seen.numpy()
    tree = cKDTree(places[known])
    away, near = tree.query(places[missing], k=min(NEIGHBOURS, int(known.sum())))
    away, near = away.reshape(missing.sum(), -1), near.reshape(missing.sum(), -1)
    share = 1 / np.maximum(away, 1e-6) ** 2
    share /= share.sum(axis=1, keepdims=True)
    filled = values.clone()
    filled[~seen] = torch.from_numpy(np.einsum("pk,pkc->pc", share, values[seen].numpy()[near])).to(values.dtype)
    return filled
