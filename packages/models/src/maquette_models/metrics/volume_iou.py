"""Volume intersection over union of occupancies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric


@dataclass
class VolumeIoUConfig:
    """Occupied is below `level`."""

    level: float = 0.0


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each pair of bool [B,...]: float32 [B]; two empty volumes give 1."""
    a, b = a.flatten(1), b.flatten(1)
    union = (a | b).sum(dim=1)
    shared = (a & b).sum(dim=1)
    return torch.where(union > 0, shared / union.clamp(min=1), 1.0)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair of bool [N,...] and [M,...]: float32 [N,M]."""
    x, y = a.flatten(1).float(), b.flatten(1).float()
    shared = x @ y.T
    union = x.sum(dim=1)[:, None] + y.sum(dim=1)[None] - shared
    return torch.where(union > 0, shared / union.clamp(min=1), 1.0)


class VolumeIoU(Metric):
    """Mean over shapes of the overlap of predicted and true occupancy, in [0,1]."""

    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, config: VolumeIoUConfig) -> None:
        super().__init__()
        self.level = config.level
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count distance grids [B,1,R,R,R], negative inside."""
        self.total += iou(predicted < self.level, target < self.level).double().sum()
        self.count += len(target)

    def compute(self) -> Tensor:
        """The mean overlap; NaN before any update."""
        return (self.total / self.count).float()
