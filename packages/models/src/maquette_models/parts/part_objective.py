"""The loss of labelling surface points by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import uniform
from maquette_models.parts.part_labels import UNLABELLED, point_labels
from maquette_models.parts.part_segmenter import point_features

MOST = 8.0  # how much more than the mean a point of a small part counts


@dataclass
class PartLabelsConfig:
    """The last `queries` points of a sample are labelled, from all of them. `hide_color` is the share of the samples
    whose colours are hidden, so that meshes without paint can be labelled too.

    `balance` from 0 to 1 goes from counting all points alike to counting all parts of a shape alike.
    """

    queries: int = 1024
    hide_color: float = 0.4
    balance: float = 0.5

    def __post_init__(self) -> None:
        """Raises ValueError on what is no share."""
        if self.queries < 1 or not 0 <= self.hide_color <= 1 or not 0 <= self.balance <= 1:
            raise ValueError("'queries' must be at least 1, 'hide_color' and 'balance' shares from 0 to 1")


class PartLabels:
    """Cross-entropy of the part of each point, averaged over a sample's points first and over samples then."""

    def __init__(self, config: PartLabelsConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        """loss, accuracy, and the loss of each sample, on a batch of `surface`, `normals`, `surface_color` (may be
        missing), `surface_part` and `part_names`."""
        kinds = model.kinds
        labels = point_labels(batch, kinds)[:, -self.config.queries :]
        return self.loss(model(*self.inputs(model, batch)), labels)

    def inputs(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The model's arguments; in training with some samples' colours hidden."""
        points, features = batch["surface"], point_features(batch["normals"], batch.get("surface_color"))
        if model.training:
            hidden = uniform("hide_color", (len(points),), device=points.device) < self.config.hide_color
            blank = point_features(batch["normals"], None)
            features = torch.where(hidden[:, None, None], blank, features)
        last = slice(-self.config.queries, None)
        return points, features, points[:, last], features[:, last]

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        """The terms, from logits [B,Q,K] and labels [B,Q]."""
        known = labels != UNLABELLED
        by_point = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=UNLABELLED, reduction="none")
        weight = self.weights(labels, known, logits.shape[-1])
        by_sample = (by_point * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        right = (logits.detach().argmax(dim=-1) == labels)[known].float().mean()
        return {"loss": by_sample.mean(), "accuracy": right, "per_sample": {"loss": by_sample.detach()}}

    def weights(self, labels: Tensor, known: Tensor, kinds: int) -> Tensor:
        """What points count, [B,Q]: 0 without a label, more in small parts."""
        one_hot = F.one_hot(labels.clamp(min=0), kinds) * known[..., None]
        counts = one_hot.sum(dim=1)
        even = known.sum(dim=1, keepdim=True) / (counts > 0).sum(dim=1, keepdim=True).clamp(min=1) / counts.clamp(min=1)
        alike = even.clamp(max=MOST).gather(1, labels.clamp(min=0))
        return known * (1 - self.config.balance + self.config.balance * alike)
