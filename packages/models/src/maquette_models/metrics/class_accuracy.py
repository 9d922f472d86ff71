"""Whether generated shapes are of the class they were asked for, judged by a classifier of real shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from omegaconf import MISSING
from torch import Tensor
from torchmetrics import Metric

from maquette.errors import MaquetteError
from maquette_models.metrics.shape_classifier import coarse_occupancy, train_classifier
from maquette_models.shards import READER, read_shards


@dataclass
class ClassAccuracyConfig:
    """The classifier learns from the training split of the `shards` folder."""

    shards: str = MISSING
    reader: str = READER
    steps: int = 300
    seed: int = 0


class ClassAccuracy(Metric):
    """Share of shapes that the classifier puts in their class; `ceiling` is the same for held-out real
    shapes."""

    higher_is_better = True
    full_state_update = False
    correct: Tensor
    count: Tensor

    def __init__(self, config: ClassAccuracyConfig) -> None:
        super().__init__()
        self.add_state("correct", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        occupancy, labels = coarse_split(config, "train")
        held_out, held_out_labels = coarse_split(config, "val")
        classes = int(max(labels.max(), held_out_labels.max())) + 1
        self.classifier = train_classifier(occupancy, labels, classes, config.steps, config.seed)
        self.ceiling = float((self.classifier(held_out).argmax(dim=1) == held_out_labels).float().mean())

    def predict(self, tsdf: Tensor) -> Tensor:
        """The classes [B] of distance grids [B,1,R,R,R]."""
        return self.classifier(coarse_occupancy(tsdf)).argmax(dim=1)

    def update(self, tsdf: Tensor, class_id: Tensor) -> None:
        """Count distance grids [B,1,R,R,R] that were asked for as classes [B]."""
        self.correct += (self.predict(tsdf) == class_id).sum()
        self.count += len(class_id)

    def compute(self) -> Tensor:
        """The share in [0,1]; NaN before any update."""
        return self.correct / self.count


def coarse_split(config: ClassAccuracyConfig, split: str) -> tuple[Tensor, Tensor]:
    """Coarse occupancies [N,1,16,16,16] and classes [N] of one split of a shard folder."""
    batches = [
        (coarse_occupancy(batch["tsdf"]), batch["class_id"])
        for batch in read_shards(config.shards, split, config.reader)
    ]
    if not batches:
        raise MaquetteError(f"metric 'class_accuracy': '{config.shards}' has no {split} shapes; build more shards")
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
