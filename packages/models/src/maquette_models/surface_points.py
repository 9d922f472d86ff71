"""Points and normals sampled evenly on a mesh, for metrics."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.types import Mesh


def surface_points(mesh: Mesh, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points and face normals, float32 [count,3] each, uniform by area; the same seed gives the same points.

    Raises:
        MaquetteError: the mesh has no area.
    """
    points, normals, _ = sampled(mesh, count, seed)
    return points, normals


def colored_points(mesh: Mesh, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points as `surface_points` gives them and their colours in [0,1], float32 [count,3]; grey on a mesh without.

    Raises:
        MaquetteError: the mesh has no area.
    """
    points, _, (faces, weights) = sampled(mesh, count, seed)
    if mesh.colors is None:
        return points, torch.full_like(points, 0.5)
    corners = mesh.colors[:, :3].astype(np.float64)[mesh.faces[faces]] / 255
    return points, torch.from_numpy(np.einsum("pc,pci->pi", weights, corners).astype(np.float32))


def sampled(mesh: Mesh, count: int, seed: int) -> tuple[Tensor, Tensor, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Points, their normals, and where they lie: faces [count] and weights of their corners [count,3]."""
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
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(unit.astype(np.float32)), (picked, weights)
