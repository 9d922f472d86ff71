"""Gradients of samples from those of the vertices on their edges, in an order that is always the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maquette_kernels.surface.edges import weight_gradients

Sums = Callable[[Tensor, Tensor, Tensor, tuple[float, float], Tensor], Tensor]


def sums(values: Tensor, edges: Tensor, axis: Tensor, place: tuple[float, float], above: Tensor) -> Tensor:
    """Gradient of the values [N] from that of the vertices ``above`` [V, 3], whose edges lie along ``axis`` [V].

    A sample begins at most one edge along an axis and ends at most one: six sums without collisions.
    """
    along = above.gather(1, axis[:, None]).squeeze(1)
    both = weight_gradients(values, edges, *place, along)
    total = torch.zeros_like(values)
    for end, found in enumerate(both):
        for number in range(3):
            chosen = (axis == number).nonzero().squeeze(1)
            total.index_add_(0, edges[chosen, end], found[chosen])
    return total


def pull_dense(arguments: Any, residuals: Any, gradients: Any, sums: Sums = sums) -> tuple[Tensor]:
    """Backward of ``marching_cubes``: the gradient of the grid."""
    grid, level, clearance = arguments
    (edges,) = residuals
    if gradients[0] is None or not len(edges):
        return (torch.zeros_like(grid, memory_format=torch.contiguous_format),)
    step = edges[:, 1] - edges[:, 0]
    axis = torch.where(step == 1, 2, torch.where(step == grid.shape[2], 1, 0))
    return (sums(grid.flatten(), edges, axis, (level, clearance), gradients[0]).view(grid.shape),)


def pull_sparse(arguments: Any, residuals: Any, gradients: Any, sums: Sums = sums) -> tuple[Tensor]:
    """Backward of ``sparse_marching_cubes``: the gradient of the values."""
    values, coords, level, clearance = arguments
    (edges,) = residuals
    if gradients[0] is None or not len(edges):
        return (torch.zeros_like(values),)
    axis = (coords[edges[:, 1], 1:] - coords[edges[:, 0], 1:]).argmax(1)
    return (sums(values, edges, axis, (level, clearance), gradients[0]),)
