"""Losses of the shape and colour autoencoder: weighted distances, colours near the surface, a small KL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import normal

BAND = 0.999  # distances below this share of the truncation are near the surface


@dataclass
class VAEObjectiveConfig:
    """Cells near the surface count `surface_weight` times more than the saturated rest."""

    surface_weight: float = 30.0
    color_weight: float = 1.0
    color_far_weight: float = 0.02
    kl_weight: float = 2e-3


class VAEObjective:
    """L1 of distance and colour plus KL to a standard normal (Kingma & Welling, 2014)."""

    def __init__(self, config: VAEObjectiveConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """loss, tsdf, color and kl, scalars each, on `tsdf` [B,1,R,R,R] and `color` [B,3,R/2,R/2,R/2]."""
        return self.loss(model(*self.inputs(model, batch)), self.target(batch))

    def inputs(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The model's arguments; in training also the noise its latent is sampled with, if it has a
        `latent_shape`."""
        tsdf, color = batch["tsdf"], batch["color"]
        if not model.training or not hasattr(model, "latent_shape"):
            return tsdf, color
        return tsdf, color, normal("latent", model.latent_shape(tsdf), device=tsdf.device)

    def target(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What `loss` compares the model's output with."""
        return {"tsdf": batch["tsdf"], "color": batch["color"]}

    def loss(self, output: Any, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms, from an output with tsdf, color, mean and logvar."""
        tsdf, color = target["tsdf"], target["color"]
        near = (tsdf.abs() < BAND).to(tsdf.dtype)
        shape_loss = weighted_l1(output.tsdf, tsdf, 1 + self.config.surface_weight * near)
        factor = tsdf.shape[-1] // color.shape[-1]
        color_weight = F.max_pool3d(near, factor).clamp(min=self.config.color_far_weight)
        color_loss = weighted_l1(output.color, color, color_weight.expand_as(color))
        kl = 0.5 * (output.mean.square() + output.logvar.exp() - output.logvar - 1).mean()
        loss = shape_loss + self.config.color_weight * color_loss + self.config.kl_weight * kl
        return {"loss": loss, "tsdf": shape_loss, "color": color_loss, "kl": kl}


def weighted_l1(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """sum(weight * |predicted - target|) / sum(weight), in float32; all of one shape."""
    error = (predicted.float() - target).abs()
    return torch.dot(error.flatten(), weight.flatten()) / weight.sum()
