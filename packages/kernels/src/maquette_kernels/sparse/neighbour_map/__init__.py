"""For every voxel and every tap of a kernel, which voxel lies there."""

from __future__ import annotations

from maquette_kernels.sparse.neighbour_map.operation import NEIGHBOUR_MAP, build

__all__ = ["NEIGHBOUR_MAP", "build"]
