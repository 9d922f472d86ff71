"""How close generated shapes come to the shapes the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from omegaconf import MISSING
from torch import Tensor
from torchmetrics import Metric

from maquette.errors import MaquetteError
from maquette_models.metrics.occupancy import Occupancy, packed, unpacked
from maquette_models.metrics.volume_iou import pairwise_iou
from maquette_models.shards import READER, read_shards

BLOCK = 1024  # training shapes compared at once


@dataclass
class NearestTrainingConfig:
    """Occupancies of the training split of the `shards` folder are compared at `resolution`; mirrored ones
    too."""

    shards: str = MISSING
    reader: str = READER
    resolution: int = 32
    mirror: bool = True


class Found(NamedTuple):
    """For each of B shapes: overlap float32 [B], number int64 [B] of the training shape in the order of the index, and
    whether it is its mirror image, bool [B]."""

    iou: Tensor
    number: Tensor
    mirrored: Tensor


class NearestTraining(Metric):
    """Mean over shapes of the highest IoU with any training shape; 1 means copies.

    `held_out` is the same figure for the held-out shapes: samples well above it are retrieved, not generated.
    """

    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, config: NearestTrainingConfig) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.occupancy = Occupancy(config.resolution)
        own: list[Tensor] = []
        mirrored: list[Tensor] = []
        for batch in read_shards(config.shards, "train", config.reader):
            own.append(packed(self.occupancy(batch["tsdf"])))
            if config.mirror:
                mirrored.append(packed(self.occupancy(batch["tsdf"].flip(2))))
        if not own:
            raise MaquetteError(
                f"metric 'nearest_training': '{config.shards}' has no training shapes; build more shards"
            )
        self.training_shapes = torch.cat([*own, *mirrored])
        self.training_count = sum(map(len, own))
        held_out = [self.nearest(batch["tsdf"]) for batch in read_shards(config.shards, "val", config.reader)]
        self.held_out = float(torch.cat(held_out).mean()) if held_out else float("nan")

    def nearest(self, tsdf: Tensor) -> Tensor:
        """The highest IoU [B] of distance grids [B,1,R,R,R] with any training shape."""
        return self.find(tsdf).iou

    def find(self, tsdf: Tensor) -> Found:
        """The training shape that each of some distance grids [B,1,R,R,R] overlaps with most."""
        own = self.occupancy(tsdf)
        overlaps = [pairwise_iou(own, unpacked(rows)) for rows in self.training_shapes.split(BLOCK)]
        iou, row = torch.cat(overlaps, dim=1).max(dim=1)
        return Found(iou, row % self.training_count, row >= self.training_count)

    def update(self, tsdf: Tensor) -> None:
        """Count distance grids [B,1,R,R,R]."""
        self.total += self.nearest(tsdf).double().sum()
        self.count += len(tsdf)

    def compute(self) -> Tensor:
        """The mean in [0,1]; NaN before any update."""
        return (self.total / self.count).float()
