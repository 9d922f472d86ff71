"""``closest_on_mesh``: the nearest point of a triangle mesh to each point; see ``docs/kernels/closest_on_mesh.md``."""

from __future__ import annotations

from maquette_kernels.distance.closest_on_mesh.operation import CLOSEST_ON_MESH, build

__all__ = ["CLOSEST_ON_MESH", "build"]
