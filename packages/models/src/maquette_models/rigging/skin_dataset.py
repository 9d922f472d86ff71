"""Skins of shard folders: what is told of each point and joint beside the weight that binds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maquette.engine.randomness import fold
from maquette_models.rigging.endless_shapes import EndlessShapes, EndlessShapesConfig, stacked
from maquette_models.rigging.pair_features import bind
from maquette_models.rigging.rigged_shapes import RiggedShape
from maquette_models.rigging.skeleton_tree import Tree


@dataclass
class SkinsConfig(EndlessShapesConfig):
    """As `EndlessShapesConfig`; of the `points` drawn, `asked` learn their weights, and the rest say what the shape is.

    In training joints are up to `joint_noise` off in the unit cube's units, as predicted ones are.
    """

    points: int = 2048
    asked: int = 512
    joint_noise: float = 0.0


class Skins(EndlessShapes):
    """Batches of `pairs` float32 [B,P,J,F] (see `pair_features`), `points` and `normals` float32 [B,P,3], `weights`
    float32 [B,P,J], `joints` float32 [B,J,3], `parents` and `roles` int64 [B,J], `joint_mask` bool [B,J].

    Padded joints have weight 0, parent -1 and role 0.
    """

    name = "skins"
    config: SkinsConfig

    def facts(self) -> dict[str, Any]:
        """Names of the roles, and how many points a shape is looked at by."""
        return {"joint_roles": self.roles, "skin_points": self.config.points}

    def keeps(self, shape: RiggedShape) -> bool:
        """See `EndlessShapes`; what cannot move has no skin."""
        return 0 < len(shape.tree) <= self.config.joints

    def batch_of(self, shapes: Sequence[RiggedShape]) -> dict[str, Any]:
        """See `EndlessShapes`."""
        count = self.config.asked
        pairs = [
            bind(shape.surface, shape.normals, shape.tree).features(shape.surface[:count], shape.normals[:count])
            for shape in shapes
        ]
        return {
            "pairs": padded_joints(pairs, axis=1),
            "points": stacked([shape.surface[:count] for shape in shapes]),
            "normals": stacked([shape.normals[:count] for shape in shapes]),
            "weights": padded_joints([shape.weights[:count] for shape in shapes], axis=1),
            **joint_tensors([shape.tree for shape in shapes]),
        }

    def _varied(self, shape: RiggedShape, position: int) -> RiggedShape:
        shape = super()._varied(shape, position)
        rng = np.random.default_rng(fold("joint_noise", self.config.seed, position))
        off = rng.normal(size=shape.tree.positions.shape) * self.config.joint_noise * rng.random()
        return replace(shape, tree=replace(shape.tree, positions=shape.tree.positions + off))


def joint_tensors(trees: Sequence[Tree]) -> dict[str, Tensor]:
    """`joints`, `parents`, `roles` and `joint_mask` of a batch of trees; see `Skins`."""
    most = max(len(tree) for tree in trees)
    mask = torch.arange(most) < torch.tensor([len(tree) for tree in trees])[:, None]
    parents = torch.full((len(trees), most), -1)
    for row, tree in enumerate(trees):
        parents[row, : len(tree)] = torch.from_numpy(tree.parents)
    return {
        "joints": padded_joints([tree.positions for tree in trees], axis=0),
        "parents": parents,
        "roles": padded_joints([tree.roles for tree in trees], axis=0).long(),
        "joint_mask": mask,
    }


def padded_joints(arrays: Sequence[np.ndarray], axis: int) -> Tensor:
    """Arrays that differ in their number of joints as one batch, float32, zeros behind."""
    most = max(array.shape[axis] for array in arrays)
    widths = [[(0, most - array.shape[axis]) if i == axis else (0, 0) for i in range(array.ndim)] for array in arrays]
    return stacked([np.pad(array, width) for array, width in zip(arrays, widths, strict=True)])
