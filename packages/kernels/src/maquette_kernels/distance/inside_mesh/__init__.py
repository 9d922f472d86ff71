"""``inside_mesh``: whether points are inside a mesh as it is; see ``docs/kernels/winding_number.md``."""

from __future__ import annotations

from maquette_kernels.distance.inside_mesh.operation import INSIDE_MESH, build

__all__ = ["INSIDE_MESH", "build"]
