"""The obvious code for ``sample_sparse_trilinear``: every point's corners are compared with every voxel."""

from __future__ import annotations

import torch
from torch import Tensor

LIMIT = 32767
"""Points further out than this on any side, and voxels beyond 16 bits a side, meet nothing."""
BATCHES = 32768


def working_dtype(features: Tensor, points: Tensor) -> torch.dtype:
    """Dtype of the arithmetic: at least float32, float64 where an operand has it."""
    return torch.promote_types(torch.promote_types(features.dtype, points.dtype), torch.float32)


def reference(
    features: Tensor, coords: Tensor, points: Tensor, batch: Tensor | None = None, renormalise: bool = False
) -> Tensor:
    """Features at points, [P, C]; as ``functions.sample_sparse_trilinear``."""
    dtype = working_dtype(features, points)
    index, weights = residuals(features, coords, points, batch, renormalise)
    padded = torch.cat([features.to(dtype), features.new_zeros((1, features.shape[1]), dtype=dtype)])
    return (padded[index.long()] * weights.unsqueeze(-1)).sum(1).to(features.dtype)


def residuals(
    features: Tensor, coords: Tensor, points: Tensor, batch: Tensor | None = None, renormalise: bool = False
) -> tuple[Tensor, Tensor]:
    """Voxel at each of the 8 corners of a point's cell, int32 [P, 8] (-1 where there is none), and its weight.

    Corners in the order of x, y, z: (0, 0, 0), (0, 0, 1), (0, 1, 0), ...
    """
    points = points.to(working_dtype(features, points))
    inside = (points.abs() < LIMIT).all(1)
    points = torch.where(inside.unsqueeze(1), points, 0)
    base = points.detach().floor()
    corner = torch.cartesian_prod(*[torch.arange(2, device=points.device)] * 3)
    element = torch.zeros_like(inside, dtype=torch.int64) if batch is None else batch.long()
    index = _find(coords.long(), base.long().unsqueeze(1) + corner, element, inside)
    fraction, rest = (points - base).unsqueeze(1), (base + 1 - points).unsqueeze(1)
    weights = torch.where(corner == 1, fraction, rest).prod(-1)
    weights = torch.where(index >= 0, weights, 0)
    if renormalise:
        total = weights.sum(1, keepdim=True)
        weights = torch.where(total > 0, weights / torch.where(total > 0, total, 1), 0)
    return index, weights


def _find(coords: Tensor, corners: Tensor, element: Tensor, inside: Tensor) -> Tensor:
    """Index of the voxel at each corner [P, 8, 3] of an element of the batch [P], or -1."""
    known = ((coords >= -LIMIT - 1) & (coords <= LIMIT))[:, 1:].all(1)
    known = known & (coords[:, 0] >= 0) & (coords[:, 0] < BATCHES)
    same = (corners.unsqueeze(2) == coords[:, 1:]).all(-1) & (element.unsqueeze(1) == coords[:, 0]).unsqueeze(1)
    same = same & known & inside[:, None, None]
    number = torch.arange(-1, coords.shape[0], device=coords.device)
    return torch.where(torch.nn.functional.pad(same, (1, 0), value=True), number, -1).amax(-1).int()
