"""Rectified flow: the model learns the velocity of a straight line from data to noise.

Liu et al., "Flow Straight and Fast", 2022; times after Esser et al., "Scaling Rectified Flow Transformers",
2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import normal, uniform
from maquette.errors import MaquetteError


@dataclass
class FlowMatchingConfig:
    """`time` is "logit_normal" (sigmoid of a normal with `mu` and `sigma`) or "uniform".

    `balance_weight` is the share of the experts' balance loss, for models that have experts.
    """

    time: str = "logit_normal"
    mu: float = 0.0
    sigma: float = 1.0
    balance_weight: float = 0.01

    def __post_init__(self) -> None:
        if self.time not in ("logit_normal", "uniform"):
            raise MaquetteError(f"objective 'flow_matching': time '{self.time}'; use logit_normal or uniform")


class FlowMatching:
    """x_t = (1-t) x0 + t eps; the target is eps - x0, so t = 1 is noise."""

    def __init__(self, config: FlowMatchingConfig) -> None:
        self.config = config

    def draw_times(self, batch_size: int, device: torch.device | None = None) -> Tensor:
        """Times in (0,1), float32 [B], for the samples of the batch under way."""
        if self.config.time == "uniform":
            return uniform("time", (batch_size,), device=device)
        return torch.sigmoid(normal("time", (batch_size,), device=device) * self.config.sigma + self.config.mu)

    def draw(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Noise of the shape of the batch's `latent` and times [B]; the same each time for the batch under way."""
        x0 = batch["latent"]
        return normal("noise", x0.shape, device=x0.device), self.draw_times(len(x0), x0.device)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Mean squared error of the velocity on `latent` [B,C,L,L,L] under the batch's condition.

        Returns:
            loss; `velocity`, the error alone, and `balance` where the model has experts; `per_sample`, see `loss`.
        """
        drawn = self.draw(batch)
        terms = self.loss(model(*self.inputs(model, batch, drawn)), self.target(batch, drawn))
        balance = model.balance() if hasattr(model, "balance") else None
        if balance is None:
            return terms
        loss = terms["loss"] + self.config.balance_weight * balance
        return {**terms, "loss": loss, "velocity": terms["loss"], "balance": balance}

    def inputs(
        self, model: nn.Module, batch: Mapping[str, Any], drawn: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """The model's arguments: x_t, t and the prepared condition. `model` needs its conditioner alone."""
        noise, t = drawn or self.draw(batch)
        spread = t.view(-1, *[1] * (noise.ndim - 1))
        return (1 - spread) * batch["latent"] + spread * noise, t, model.conditioner.prepare(batch)

    def target(self, batch: Mapping[str, Any], drawn: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
        """What `loss` compares the model's output with: the velocity [B,C,L,L,L], and the times [B]."""
        noise, t = drawn or self.draw(batch)
        return {"velocity": noise - batch["latent"], "t": t}

    def loss(self, output: Tensor, target: Mapping[str, Tensor]) -> dict[str, Any]:
        """The mean squared error; beside it that of each sample and its time, detached float32 [B], in
        `per_sample`."""
        velocity = output.float()
        error = (velocity.detach() - target["velocity"]).square().flatten(1).mean(dim=1)
        return {"loss": F.mse_loss(velocity, target["velocity"]), "per_sample": {"loss": error, "t": target["t"]}}
