"""The distance grid of any mesh, for judges that look at grids."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette.types import Mesh
from maquette_kernels.ops import sdf_grid
from maquette_models.metrics.mesh_topology import is_closed

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
