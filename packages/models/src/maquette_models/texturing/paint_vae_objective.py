"""Losses of the autoencoder of paint: paint at points that the encoder did not see, a small KL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import normal
from maquette.errors import MaquetteError
from maquette_models.texturing.paint_vae import PaintVAEOutput
from maquette_models.texturing.painted_points import CHANNELS, PaintedPoints


@dataclass
class PaintVAEObjectiveConfig:
    """The last `queries` points of a sample are decoded, the others encoded."""

    queries: int = 1024
    kl_weight: float = 1e-3


class PaintVAEObjective:
    """L1 of the six channels, plus KL to a standard normal (Kingma & Welling, 2014)."""

    def __init__(self, config: PaintVAEObjectiveConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """loss, paint and kl, scalars each."""
        return self.loss(model(*self.inputs(model, batch)), self.target(batch))

    def inputs(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        """The model's arguments; in training with noise for the latent."""
        points = PaintedPoints.of_batch(batch)
        rows, count = points.places.shape[:2]
        seen = count - self.config.queries
        if seen < 1:
            raise MaquetteError(
                f"objective 'paint_vae': {self.config.queries} queries of {count} points leave none to encode; raise "
                "data.points"
            )
        parts = points.window(0, seen), points.window(seen, count)
        if not model.training:
            return parts
        return (*parts, normal("latent", model.noise_shape(rows), device=points.places.device))

    def target(self, batch: Mapping[str, Any]) -> Tensor:
        """The queries' paint [B,Q,6]."""
        return PaintedPoints.of_batch(batch).paint[:, -self.config.queries :]

    def loss(self, output: PaintVAEOutput, target: Tensor) -> dict[str, Tensor]:
        """The terms, from the model's output."""
        paint = F.l1_loss(output.paint, target)
        mean, logvar = (part[:, len(CHANNELS) :] for part in (output.mean, output.logvar))  # of what is learnt
        kl = 0.5 * (mean.square() + logvar.exp() - logvar - 1).mean()
        return {"loss": paint + self.config.kl_weight * kl, "paint": paint, "kl": kl}
