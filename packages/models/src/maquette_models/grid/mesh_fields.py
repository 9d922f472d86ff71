"""The grids that a shard has of a shape, made of any mesh."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from maquette.types import Mesh
from maquette_kernels.ops import MeshQuery, sdf_grid
from maquette_models.metrics.mesh_topology import is_closed

GRAY = 0.745  # of meshes without colours
SHELL = 0.75  # half the thickness, in cells, of what has no inside; as the shards of real meshes have it


def mesh_field(mesh: Mesh, resolution: int, truncation: float) -> Tensor:
    """Signed distance, float32 [1,1,R,R,R], negative inside, clipped at `truncation` and divided by it.

    A mesh that is not closed is what its winding number says is inside, together with a thin shell around its surface,
    so that sheets are seen.
    """
    vertices, faces = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)
    field = sdf_grid(vertices, faces, resolution, band=truncation)
    if not is_closed(mesh):
        shell = sdf_grid(vertices, faces, resolution, band=truncation, signed=False) - SHELL / resolution
        field = torch.minimum(field, shell)
    return (field / truncation).clamp(-1, 1)[None, None]


def mesh_grids(mesh: Mesh, resolution: int, truncation: float) -> tuple[Tensor, Tensor]:
    """Distance [1,1,R,R,R], as `mesh_field` gives it, and colour [1,3,R/2,R/2,R/2] in [0,1], of the nearest surface."""
    side = resolution // 2
    axis = (torch.arange(side) + 0.5) / side - 0.5
    centres = torch.cartesian_prod(axis, axis, axis)
    color = colors_near(mesh, centres).T.reshape(1, 3, side, side, side)
    return mesh_field(mesh, resolution, truncation), color.contiguous()


def colors_near(mesh: Mesh, points: Tensor) -> Tensor:
    """The colour in [0,1], float32 [P,3], of a mesh's surface nearest to each of points [P,3]."""
    if mesh.colors is None:
        return torch.full((len(points), 3), GRAY)
    _, face, weights = MeshQuery(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)).closest(points)
    corners = torch.from_numpy(mesh.colors[:, :3].astype(np.float32) / 255)[torch.from_numpy(mesh.faces).long()]
    return (weights[:, :, None] * corners[face.long()]).sum(dim=1)
