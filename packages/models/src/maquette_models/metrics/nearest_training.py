"""How close generated shapes come to the shapes the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from omegaconf import MISSING
from torch import Tensor
from torchmetrics import Metric

from maquette.errors import MaquetteError
from maquette_models.metrics.occupancy import Occupancy, packed, unpacked
from maquette_models.metrics.volume_iou import pairwise_iou
from maquette_models.shards import READER, read_shards


@dataclass
class NearestTrainingConfig:
    """Occupancies of the training split of the `shards` folder are compared at `resolution`; mirrored ones
    too."""

    shards: str = MISSING
    reader: str = READER
    resolution: int = 32
    mirror: bool = True


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
        rows = []
        for batch in read_shards(config.shards, "train", config.reader):
            rows.append(packed(self.occupancy(batch["tsdf"])))
            if config.mirror:
                rows.append(packed(self.occupancy(batch["tsdf"].flip(2))))
        if not rows:
            raise MaquetteError(
                f"metric 'nearest_training': '{config.shards}' has no training shapes; build more shards"
            )
        self.training_shapes = torch.cat(rows)
        held_out = [self.nearest(batch["tsdf"]) for batch in read_shards(config.shards, "val", config.reader)]
        self.held_out = float(torch.cat(held_out).mean()) if held_out else float("nan")

    def nearest(self, tsdf: Tensor) -> Tensor:
        """The highest IoU [B] of distance grids [B,1,R,R,R] with any training shape."""
        return pairwise_iou(self.occupancy(tsdf), unpacked(self.training_shapes)).amax(dim=1)

    def update(self, tsdf: Tensor) -> None:
        """Count distance grids [B,1,R,R,R]."""
        self.total += self.nearest(tsdf).double().sum()
        self.count += len(tsdf)

    def compute(self) -> Tensor:
        """The mean in [0,1]; NaN before any update."""
        return (self.total / self.count).float()
