"""``closest_on_mesh`` on the CPU: a search tree in double precision, points in threads."""

# Implementations take all arguments by position, as torch's operators do; so do compiled kernels their arrays.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.distance.recent_trees import FoundTree, tree_of
from maquette_kernels.distance.tree import TriangleTree
from maquette_kernels.distance.tree_query import weights_of
from maquette_kernels.threads import in_chunks


@njit(cache=True, nogil=True)
def _finish(corners, points, face, start, stop, weights, direction):
    """Fills weights and directions of points start:stop, whose nearest faces are known."""
    for i in range(start, stop):
        triangle = corners[face[i]]
        w = weights_of(triangle, points[i, 0], points[i, 1], points[i, 2])
        squared = 0.0
        for k in range(3):
            foot = w[0] * triangle[0, k] + w[1] * triangle[1, k] + w[2] * triangle[2, k]
            weights[i, k] = w[k]
            direction[i, k] = points[i, k] - foot
            squared += direction[i, k] ** 2
        scale = 1.0 / np.sqrt(squared) if squared > 0.0 else 0.0
        for k in range(3):
            direction[i, k] *= scale


@njit(cache=True, nogil=True)
def _scatter(faces, face, weights, direction, above, gradient):
    """Takes each point's share from the gradients of the corners of its face, one after the other."""
    for i in range(len(face)):
        if face[i] >= 0:
            for corner in range(3):
                vertex = faces[face[i], corner]
                for k in range(3):
                    gradient[vertex, k] -= weights[i, corner] * above[i] * direction[i, k]


def forward(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distance, face, weights; and the direction that is kept."""
    return ask(tree_of(vertices, faces), points)


def ask(found: FoundTree, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same of a tree."""
    given = points.detach().double().numpy()
    sound = np.isfinite(given).all(1)
    count = len(given)
    distance = np.where(sound, np.inf, np.nan)
    face = np.full(count, -1, np.int32)
    weights, direction = np.zeros((count, 3)), np.zeros((count, 3))
    if found.tree is not None and sound.any():
        chosen = slice(None) if sound.all() else np.flatnonzero(sound)
        distance[chosen], face[chosen], weights[chosen], direction[chosen] = _search(found.tree, found, given[chosen])
    dtype = points.dtype
    away, number = torch.from_numpy(distance).to(dtype), torch.from_numpy(face)
    return away, number, torch.from_numpy(weights).to(dtype), torch.from_numpy(direction).to(dtype)


def _search(tree: TriangleTree, found: FoundTree, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """Answers for finite points."""
    points = np.ascontiguousarray(points)
    distance, face, _ = tree.closest(points)
    weights, direction = np.empty((len(points), 3)), np.empty((len(points), 3))

    def finish(start: int, stop: int) -> None:
        _finish(found.corners, points, face, start, stop, weights, direction)

    in_chunks(finish, len(points), 8192)
    return distance, face if found.numbers is None else found.numbers[face], weights, direction


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of points and vertices; faces and weights pass none on."""
    (_, vertices, faces), (face, weights, direction), above = arguments, residuals, gradients[0]
    if above is None:
        return None, None
    gradient = np.zeros(vertices.shape)
    # Widened, so that one compiled kernel serves all dtypes and strides.
    shares = (value.double().contiguous().numpy() for value in (weights, direction, above))
    _scatter(faces.long().contiguous().numpy(), face.numpy(), *shares, gradient)
    return above[:, None] * direction, torch.from_numpy(gradient).to(vertices.dtype)
