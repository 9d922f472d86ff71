"""Quads cut in four about a centre that depends on weights, and the way back, in plain torch for CPUs.

On a CPU ``index_add_`` adds in the order of its rows, so gradients are deterministic.
"""

from __future__ import annotations

import torch
from torch import Tensor


def blend_forward(vertices: Tensor, corners: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Centres float64 [Q, 3], and faces int32 [4 Q, 3] of quads [Q, 4] that vertices [V, 3] and centres span.

    Args:
        weights: float64 [Q, 4] of the corners, or None for equal ones.
    """
    at = vertices[corners]
    share = _share(weights)
    centres = share * (at[:, 0] + at[:, 2]) / 2 + (1 - share) * (at[:, 1] + at[:, 3]) / 2
    own = torch.arange(len(vertices), len(vertices) + len(corners), dtype=torch.int32)
    faces = torch.stack([corners, corners.roll(-1, 1), own[:, None].expand(-1, 4)], 2)
    return centres, faces.reshape(-1, 3).int()


def blend_backward(
    above: Tensor, vertices: Tensor, corners: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the vertices that are no centres, [V, 3], and of their weights, [V].

    Args:
        above: gradients of vertices and centres, float64 [V + Q, 3].
        vertices: float64 [V, 3]; corners: of the quads, [Q, 4]; weights: float64 [Q, 4] of these corners.
    """
    moved, centres = above[: len(vertices)].clone(), above[len(vertices) :]
    flat, share = corners.reshape(-1).long(), _share(weights)
    one, two = share / 2 * centres, (1 - share) / 2 * centres
    moved.index_add_(0, flat, torch.stack([one, two, one, two], 1).reshape(-1, 3))
    if weights is None:
        return moved, None
    at = vertices[corners.long()]
    a, b, c, d = weights.unbind(1)
    along = (centres * (at[:, 0] + at[:, 2] - at[:, 1] - at[:, 3])).sum(1) / 2 / (a * c + b * d) ** 2
    first, second = along * b * d, -along * a * c
    pulled = torch.stack([first * c, second * d, first * a, second * b], 1)
    return moved, moved.new_zeros(len(vertices)).index_add_(0, flat, pulled.reshape(-1))


def _share(weights: Tensor | None) -> Tensor | float:
    """The part of the diagonal 0-2."""
    if weights is None:
        return 0.5
    one, two = weights[:, 0] * weights[:, 2], weights[:, 1] * weights[:, 3]
    return (one / (one + two))[:, None]
