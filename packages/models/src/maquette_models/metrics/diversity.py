"""How different the shapes of one class are from each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from maquette_models.metrics.occupancy import Occupancy, packed, unpacked
from maquette_models.metrics.volume_iou import pairwise_iou


@dataclass
class DiversityConfig:
    """Occupancies are compared at `resolution` cells a side."""

    resolution: int = 64


class Diversity(Metric):
    """Mean over classes of the mean of 1 - IoU over all pairs within a class; 0 is one shape repeated."""

    higher_is_better = True
    full_state_update = False
    volumes: list[Tensor]
    classes: list[Tensor]

    def __init__(self, config: DiversityConfig) -> None:
        super().__init__()
        self.occupancy = Occupancy(config.resolution)
        self.add_state("volumes", default=[], dist_reduce_fx="cat")
        self.add_state("classes", default=[], dist_reduce_fx="cat")

    def update(self, tsdf: Tensor, class_id: Tensor) -> None:
        """Add distance grids [B,1,R,R,R] and their classes [B]."""
        self.volumes.append(packed(self.occupancy(tsdf)))
        self.classes.append(class_id)

    def compute(self) -> Tensor:
        """The mean over classes that have at least two shapes; NaN where none has."""
        volumes, classes = unpacked(dim_zero_cat(self.volumes)), dim_zero_cat(self.classes)
        values = []
        for label in classes.unique():
            own = volumes[classes == label]
            if len(own) > 1:
                upper = torch.triu_indices(len(own), len(own), offset=1)
                values.append(1 - pairwise_iou(own, own)[upper[0], upper[1]].mean())
        return torch.stack(values).mean() if values else torch.tensor(float("nan"))
