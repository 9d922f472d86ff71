"""What a network reads and writes of a surface at each of its voxels, and the way from batches to sparse tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette_kernels.ops import nearest_neighbours
from maquette_kernels.sparse.tensor import SparseTensor
from maquette_models.sparse_voxels.voxel_surface import DIELECTRIC, ROUGH, VoxelSurface

FEATURES = {"points": 3, "edges": 3, "signs": 3, "color": 3, "material": 2}
"""Channels by name, in their order. As input: points, colours and materials moved from 0..1 to -1..1; edges +-1; signs
+-1 where the edge is crossed and 0 elsewhere. As output edges and signs are logits."""
SHAPE_CHANNELS, PAINT_CHANNELS = 9, 5
FIELDS = ["dual_voxels", "dual_points", "dual_edges", "surface", "surface_color", "surface_material"]
"""What the dataset `shards` must give."""


def parts_of(features: Tensor) -> dict[str, Tensor]:
    """The channels [N,14] by name."""
    return dict(zip(FEATURES, features.split(list(FEATURES.values()), dim=1), strict=True))


def features_of(surface: VoxelSurface) -> Tensor:
    """The input features float32 [N,14] of a surface."""
    edges = surface.edges.float() * 2 - 1
    signs = (surface.signs.float() * 2 - 1) * surface.edges
    return torch.cat([surface.points * 2 - 1, edges, signs, surface.color * 2 - 1, surface.material * 2 - 1], dim=1)


def surface_of(features: Tensor, voxels: Tensor, resolution: int) -> VoxelSurface:
    """The surface of output features [N,14] at voxels int32 [N,3]."""
    parts = parts_of(features.float())
    points, color, material = ((parts[name] * 0.5 + 0.5).clamp(0, 1) for name in ("points", "color", "material"))
    return VoxelSurface(voxels, points, parts["edges"] > 0, parts["signs"] > 0, color, material, resolution)


def sparse_surfaces(surfaces: list[VoxelSurface]) -> SparseTensor:
    """Surfaces of one resolution as the batch elements of one sparse tensor [N,14]."""
    numbered = [F.pad(surface.voxels, (1, 0), value=number) for number, surface in enumerate(surfaces)]
    coords = torch.cat(numbered)
    return SparseTensor(torch.cat([features_of(surface) for surface in surfaces]), coords, len(surfaces))


def split_surfaces(decoded: SparseTensor, resolution: int) -> list[VoxelSurface]:
    """The surface of each batch element of output features [N,14]."""
    element = decoded.coords[:, 0]
    own = [element == number for number in range(decoded.batch_size)]
    return [surface_of(decoded.features[rows], decoded.coords[rows, 1:], resolution) for rows in own]


def batch_surfaces(batch: Mapping[str, Any], resolution: int) -> list[VoxelSurface]:
    """The surfaces of a batch of shards, painted by their nearest surface points.

    Args:
        batch: `dual_voxels` [B,M,3] and `dual_voxels_mask` bool [B,M], `dual_points` [B,M,3], `dual_edges` uint8 [B,M]
            (bits 0 to 2 for edges, 3 to 5 for signs), `surface` [B,P,3], `surface_color` [B,P,3] in [0,1] and, if
            there, `surface_material` uint8 [B,P,2].
        resolution: cells along the cube of the dual grid.

    Raises:
        MaquetteError: a field is missing.
    """
    missing = [name for name in FIELDS[:-1] if name not in batch]
    if missing:
        raise MaquetteError(
            f"sparse voxels need the fields {', '.join(missing)} of a batch; set data.fields to {FIELDS}"
        )
    mask = batch["dual_voxels_mask"]
    return [_surface(batch, row, mask[row], resolution) for row in range(len(mask))]


def _surface(batch: Mapping[str, Any], row: int, mask: Tensor, resolution: int) -> VoxelSurface:
    voxels, points = batch["dual_voxels"][row][mask].int(), batch["dual_points"][row][mask].float()
    bits = batch["dual_edges"][row][mask][:, None].int() >> torch.arange(6, dtype=torch.int32, device=mask.device)
    edges, signs = (bits & 1).bool().chunk(2, dim=1)
    _, nearest = nearest_neighbours((voxels + points) / resolution - 0.5, batch["surface"][row].float())
    color = batch["surface_color"][row][nearest[:, 0]].float()
    if "surface_material" in batch:
        material = batch["surface_material"][row][nearest[:, 0]].float() / 255
    else:
        material = color.new_tensor([DIELECTRIC, ROUGH]).expand(len(color), 2)
    return VoxelSurface(voxels, points, edges, signs, color, material, resolution)
