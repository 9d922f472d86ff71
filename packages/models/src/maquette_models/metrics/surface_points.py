"""Points and normals sampled evenly on a mesh, for metrics."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.types import Mesh


def surface_points(mesh: Mesh, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points and face normals, float32 [count,3] each, uniform by area; the same seed gives the same points.

    Raises:
        MaquetteError: the mesh has no area.
    """
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    if not lengths.sum() > 0:
        raise MaquetteError("cannot sample points on a mesh without area; check the mesh")
    rng = np.random.default_rng(seed)
    total = np.cumsum(lengths)
    picked = np.searchsorted(total, rng.random(count) * total[-1], side="right").clip(max=len(total) - 1)
    root, along = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    points = np.einsum("pc,pci->pi", weights, corners[picked])
    unit = normals[picked] / lengths[picked, None]
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(unit.astype(np.float32))
