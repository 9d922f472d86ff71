"""The shapes that a model was trained on, to be put in the place of what it makes: what copying would be worth."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from maquette_models.metrics.nearest_training import NearestTraining, NearestTrainingConfig
from maquette_models.shards import read_shards

POINTS = 8192


class Near(NamedTuple):
    """The nearest training shape: its IoU at 32^3, and points and normals of its surface, float32 [P,3]."""

    iou: float
    points: Tensor
    normals: Tensor


class TrainingShapes:
    """The training split of a shard folder, read when first asked for."""

    def __init__(self, shards: str) -> None:
        self.shards = shards

    @cached_property
    def metric(self) -> NearestTraining:
        """The metric that finds the nearest one."""
        return NearestTraining(NearestTrainingConfig(self.shards))

    @cached_property
    def surfaces(self) -> tuple[Tensor, Tensor]:
        """Points and normals of all of them, float16 [N,P,3], P at most `POINTS`."""
        batches = [
            (batch["surface"][:, :POINTS].half(), batch["normals"][:, :POINTS].half())
            for batch in read_shards(self.shards, "train", fields=["surface", "normals"], points=0)
        ]
        return torch.cat([points for points, _ in batches]), torch.cat([normals for _, normals in batches])

    def nearest(self, tsdf: Tensor, count: int) -> list[Near]:
        """For each distance grid [B,1,R,R,R] the training shape, or mirror image of one, that overlaps with it most."""
        found = self.metric.find(tsdf)
        near = []
        for overlap, number, mirrored in zip(*(part.tolist() for part in found), strict=True):
            points, normals = (surface[number, :count].float() for surface in self.surfaces)
            turn = torch.tensor([-1.0 if mirrored else 1.0, 1, 1])
            near.append(Near(overlap, points * turn, normals * turn))
        return near

    def clouds(self, count: int) -> Tensor:
        """Points of all of them, float32 [N,count,3]."""
        return self.surfaces[0][:, :count].float()
