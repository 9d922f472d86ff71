"""Losses of the token-set autoencoder: distances at queries, colours on the surface, a small KL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import normal, uniform
from maquette_models.voxset.anchors import Anchors
from maquette_models.voxset.surface_cloud import SurfaceCloud
from maquette_models.voxset.voxset_vae import VoxSetVAEOutput

BAND = 0.999  # distances below this share of the truncation are near the surface
SEEDS = 2**24


@dataclass
class VoxSetVAEObjectiveConfig:
    """Weights, and what is drawn for each training sample.

    Queries within the truncation count `surface_weight` times more than the rest; the first `sharp_queries` points on
    sharp edges, where the distance is 0, `sharp_weight` times more. A share `fewer` of the samples is encoded on a
    random number of anchors from `least_tokens` up, the others on all; anchors move by up to half of `jitter` voxels on
    each axis.
    """

    surface_weight: float = 4.0
    sharp_weight: float = 8.0
    sharp_queries: int = 128
    color_queries: int = 256
    color_weight: float = 0.5
    kl_weight: float = 1e-3
    truncation: float = 0.05
    least_tokens: int = 64
    fewer: float = 0.5
    jitter: float = 1.0


class VoxSetVAEObjective:
    """L1 of truncated distances and of colours, plus KL to a standard normal (Kingma & Welling, 2014)."""

    def __init__(self, config: VoxSetVAEObjectiveConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """loss, sdf, color and kl, scalars each, on a batch of the fields `surface`, `normals`, `near`, `near_sdf`,
        `volume`, `volume_sdf` and, where they are stored, `surface_color`, `sharp` and `sharp_normals`."""
        return self.loss(model(*self.inputs(model, batch)), self.target(batch))

    def inputs(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        """The model's arguments; in training with anchors of a random number and place, and noise for the latent."""
        cloud = SurfaceCloud.of_batch(batch)
        queries = torch.cat([batch["near"], batch["volume"], cloud.sharp[:, : self.config.sharp_queries]], dim=1)
        color_queries = cloud.points[:, : self.config.color_queries]
        if not model.training:
            return cloud, model.anchors_of(cloud.points), queries, color_queries
        anchors = self.random_anchors(model, cloud.points)
        rows, device = len(queries), queries.device
        # Drawn for all tokens there can be, so that a sample's noise does not depend on how many its neighbours have.
        noise = normal("latent", (rows, model.config.tokens, model.channels), device=device)
        return cloud, anchors, queries, color_queries, noise[:, : anchors.mask.shape[1]]

    def random_anchors(self, model: nn.Module, points: Tensor) -> Anchors:
        """Anchors of surface points [B,P,3] for the samples of the batch under way."""
        config, most = self.config, model.config.tokens
        drawn = uniform("anchors", (len(points), 3)).tolist()
        least = min(config.least_tokens, most)
        counts = [least + int(size * (most - least + 1)) if which < config.fewer else most for which, size, _ in drawn]
        anchors = model.anchors_of(points, counts, [int(seed * SEEDS) for *_, seed in drawn])
        moved = uniform("jitter", (len(points), most, 3), device=points.device)[:, : anchors.mask.shape[1]] - 0.5
        return Anchors(anchors.positions + config.jitter * moved, anchors.mask)

    def target(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What `loss` compares the model's output with: distances in truncations and their weights, and colours."""
        config, cloud = self.config, SurfaceCloud.of_batch(batch)
        on_edge = torch.zeros_like(cloud.sharp[:, : config.sharp_queries, 0])
        sdf = torch.cat([batch["near_sdf"], batch["volume_sdf"], on_edge], dim=1) / config.truncation
        weight = 1 + config.surface_weight * (sdf.abs() < BAND)
        weight[:, weight.shape[1] - on_edge.shape[1] :] = 1 + config.sharp_weight
        return {"sdf": sdf.clamp(-1, 1), "weight": weight, "color": cloud.colors[:, : config.color_queries]}

    def loss(self, output: VoxSetVAEOutput, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms, from the model's output."""
        error, weight = truncated_l1(output.sdf, target["sdf"]), target["weight"]
        sdf = (error * weight).sum() / weight.sum()
        color = F.l1_loss(output.color, target["color"])
        kl = 0.5 * (output.mean.square() + output.logvar.exp() - output.logvar - 1)[output.mask].mean()
        loss = sdf + self.config.color_weight * color + self.config.kl_weight * kl
        return {"loss": loss, "sdf": sdf, "color": color, "kl": kl}


def truncated_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """|predicted - target|, except that beyond the truncation (|target| of 1) only the side counts: a distance that is
    larger still is right."""
    beyond = F.relu(1 - predicted * target)
    return torch.where(target.abs() < BAND, (predicted - target).abs(), beyond)
