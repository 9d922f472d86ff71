"""Points of a surface of which a share lies on its sharp edges, where meshes that are nearly alike differ.

After Chen et al., "Dora: Sampling and Benchmarking for 3D Shape Variational Auto-Encoders", 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maquette.types import Mesh
from maquette_models.surface_points import surface_points
from maquette_models.voxset.mesh_cloud import sharp_points


def points_with_edges(mesh: Mesh, count: int, edge_share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points and normals, float32 [count, 3] each, the last `edge_share` of them on sharp edges (see `sharp_points`),
    the others even by area; the same seed gives the same.

    Raises:
        MaquetteError: the mesh has no area.
    """
    on_edges = round(edge_share * count)
    points, normals = surface_points(mesh, count - on_edges, seed)
    edges, edge_normals = sharp_points(mesh, on_edges, seed)
    return torch.cat([points, edges]), torch.cat([normals, edge_normals])
