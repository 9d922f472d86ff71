"""``winding_number`` on the CPU: the tree's far nodes count as one, points in threads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from maquette_kernels.distance.recent_trees import FoundTree, tree_of

EXACT = 1e9
"""An accuracy at which no node is ever far."""


def forward(points: Tensor, vertices: Tensor, faces: Tensor, accuracy: float) -> Tensor:
    """One number a point."""
    return ask(tree_of(vertices, faces), points, accuracy)


def ask(found: FoundTree, points: Tensor, accuracy: float) -> Tensor:
    """The same of a tree."""
    tree = found.tree
    given = points.detach().double().numpy()
    sound = np.isfinite(given).all(1)
    number = np.where(sound, 0.0, np.nan)
    if tree is not None and sound.any():
        chosen = slice(None) if sound.all() else np.flatnonzero(sound)
        number[chosen] = tree.winding(given[chosen], accuracy or EXACT)
    return torch.from_numpy(number).to(points.dtype)
