"""Search trees of the meshes asked last: distance and sign of one mesh, or many batches of points, build one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from maquette_kernels.distance.tree import TriangleTree

KEPT = 2
LARGEST = 1_000_000
"""Trees of more faces are not kept: one takes about 400 bytes a face."""


@dataclass(frozen=True)
class FoundTree:
    """A mesh and the tree of those of its faces whose corners are all finite; None where there is no such face.

    Attributes:
        vertices: copy of what was given, [V, 3]; faces: likewise, [F, 3].
        corners: float64 [N, 3, 3] of the faces in the tree.
        numbers: int32 [N], their numbers in the mesh; None where all are in it.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corners: np.ndarray
    numbers: np.ndarray | None
    tree: TriangleTree | None

    def is_of(self, vertices: np.ndarray, faces: np.ndarray) -> bool:
        """Whether this is the tree of a mesh, by value: a tensor may have changed in place since."""
        pairs = ((self.vertices, vertices), (self.faces, faces))
        return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


_RECENT: list[FoundTree] = []


def tree_of(vertices: Tensor, faces: Tensor) -> FoundTree:
    """The tree of a mesh on the CPU, built anew only where it is not among the last few."""
    v, f = vertices.detach().numpy(), faces.numpy()
    for found in tuple(_RECENT):
        if found.is_of(v, f):
            return found
    built = _build(v.copy(), f.copy())
    if len(f) <= LARGEST:
        _RECENT[:] = [built, *_RECENT][:KEPT]  # at once: threads may lose a tree, never see half of one
    return built


def forget() -> None:
    """Free the trees that are kept."""
    _RECENT.clear()


def _build(vertices: np.ndarray, faces: np.ndarray) -> FoundTree:
    corners = vertices.astype(np.float64)[faces.astype(np.int64)]
    usable = np.isfinite(corners).all((1, 2))
    if usable.all():
        numbers = None
    else:
        numbers, corners = np.flatnonzero(usable).astype(np.int32), corners[usable]
    tree = TriangleTree(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3)) if len(corners) else None
    return FoundTree(vertices, faces, corners, numbers, tree)
