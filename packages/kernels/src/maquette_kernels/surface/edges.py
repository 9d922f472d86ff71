"""Grid edges that a surface crosses: where on the edge, and attributes there."""

from __future__ import annotations

import torch
from torch import Tensor


def edge_weights(values: Tensor, edges: Tensor, level: float, clearance: float) -> Tensor:
    """Where each edge is crossed, from 0 at its first sample to 1 at its second; differentiable in the values.

    Args:
        values: samples [N].
        edges: int64 [V, 2], numbers of the two samples of an edge, one of them below the level.
        level: the value on the surface.
        clearance: least distance from either end; the gradient is 0 where it is kept. An edge one end of
            which is NaN (or both infinite) counts as crossed halfway.

    Returns:
        [V] in the dtype of the values.
    """
    below, above = ((values[end] - level) for end in edges.unbind(1))
    t = (below / (below - above)).clamp(clearance, 1 - clearance)
    return torch.where(t.isnan(), 0.5, t)


def weight_gradients(
    values: Tensor, edges: Tensor, level: float, clearance: float, above: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of both ends' values from gradients ``above`` [V] of :func:`edge_weights`, each [V]."""
    a, b = ((values[end] - level) for end in edges.unbind(1))
    span = a - b
    t = a / span
    free = (t >= clearance) & (t <= 1 - clearance)
    slope = torch.where(free, above / (span * span), 0)
    return -b * slope, a * slope


def interpolate_on_edges(attributes: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
    """Attributes of samples [N, C] at points on edges int64 [V, 2], given :func:`edge_weights` [V]: [V, C]."""
    first, second = (attributes[end] for end in edges.unbind(1))
    return torch.lerp(first, second, weights.to(attributes.dtype)[:, None])
