"""Marching cubes on the CPU: compiled passes over slabs of the grid, in threads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from maquette_kernels.surface.march import march
from maquette_kernels.surface.scatter import pull_dense
from maquette_kernels.threads import in_chunks

_SLABS = 8


def _in_slabs(ask: Callable[[int, int], None], count: int) -> None:
    in_chunks(ask, count, _SLABS)


def forward(grid: Tensor, level: float, clearance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and edges."""
    vertices, faces, edges = march(grid.detach().contiguous().numpy(), level, clearance, _in_slabs)
    return torch.from_numpy(vertices), torch.from_numpy(faces), torch.from_numpy(edges)


backward = pull_dense
