"""Marching cubes in plain torch, a statement for each sentence of the definition."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.surface import cases
from maquette_kernels.surface.edges import edge_weights


def reference(grid: Tensor, level: float, clearance: float) -> tuple[Tensor, Tensor, Tensor]:
    """A vertex on each edge between a sample below the level and one that is not, and each cell's triangles.

    Vertices are in order of the sample that their edge leaves and of its axis, triangles of their cells and
    of the table.
    """
    if min(grid.shape) < 2:  # no cells
        empty = grid.new_empty(0, 3)
        return empty, empty.to(torch.int32), empty[:, :2].to(torch.int64)
    inside = grid < level
    crossed = _crossed(inside)
    strides = torch.tensor([grid.shape[1] * grid.shape[2], grid.shape[2], 1], device=grid.device)
    keys = crossed.flatten().nonzero().flatten()
    first, axis = keys // 3, keys % 3
    edges = torch.stack([first, first + strides[axis]], 1)
    place = torch.stack(torch.unravel_index(first, grid.shape), 1)
    along = torch.nn.functional.one_hot(axis, 3)
    weights = edge_weights(grid.flatten(), edges, level, clearance)
    return place + weights[:, None] * along, _faces(inside, crossed, strides), edges


def _crossed(inside: Tensor) -> Tensor:
    """Whether the edge that leaves a sample along an axis is crossed, bool [X, Y, Z, 3]."""
    crossed = inside.new_zeros(*inside.shape, 3)
    crossed[:-1, :, :, 0] = inside[:-1] ^ inside[1:]
    crossed[:, :-1, :, 1] = inside[:, :-1] ^ inside[:, 1:]
    crossed[:, :, :-1, 2] = inside[:, :, :-1] ^ inside[:, :, 1:]
    return crossed


def _faces(inside: Tensor, crossed: Tensor, strides: Tensor) -> Tensor:
    x, y, z = inside.shape
    slots, corners, axes = (
        torch.from_numpy(table).long().to(inside.device) for table in (cases.triangles()[0], *cases.edges())
    )
    case = torch.zeros(x - 1, y - 1, z - 1, dtype=torch.int64, device=inside.device)
    for corner in range(8):
        dx, dy, dz = corner & 1, corner >> 1 & 1, corner >> 2 & 1
        case += inside[dx : x - 1 + dx, dy : y - 1 + dy, dz : z - 1 + dz].long() << corner
    offset = torch.stack([corners & 1, corners >> 1 & 1, corners >> 2 & 1], 1) @ strides
    number = crossed.flatten().cumsum(0) - 1
    sample = torch.arange(x * y * z, device=inside.device).view(x, y, z)[:-1, :-1, :-1].flatten()
    edge = slots[case.flatten()][:, :15].reshape(-1, 3)
    kept = edge[:, 0] >= 0
    edge, sample = edge[kept], sample.repeat_interleave(5)[kept]
    return number[3 * (sample[:, None] + offset[edge]) + axes[edge]].int()
