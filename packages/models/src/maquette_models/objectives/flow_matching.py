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
from maquette_models.samplers.prediction import PREDICTIONS, prediction_of, velocity_of
from maquette_models.samplers.timesteps import resolution_shift, shifted

TOKEN_FIELDS = ("positions", "token_mask", "given")  # of a batch of tokens: go to the model with its condition
NOISE_TOKENS = 512


@dataclass
class FlowMatchingConfig:
    """`time` is "logit_normal" (sigmoid of a normal with `mu` and `sigma`) or "uniform".

    A `shift` above 1 moves times towards the noise, which more tokens need; with `reference_tokens` it is that of a
    sample of so many tokens, and others have theirs by the root of the ratio. `prediction` is what the model gives, "v"
    or "x0", and must be what the model's own config says; the loss is that of the velocity in both cases.
    `balance_weight` is the share of the experts' balance loss, for models that have experts.
    """

    time: str = "logit_normal"
    mu: float = 0.0
    sigma: float = 1.0
    shift: float = 1.0
    reference_tokens: int = 0
    prediction: str = "v"
    balance_weight: float = 0.01

    def __post_init__(self) -> None:
        if self.time not in ("logit_normal", "uniform"):
            raise MaquetteError(f"objective 'flow_matching': time '{self.time}'; use logit_normal or uniform")
        if self.prediction not in PREDICTIONS:
            raise MaquetteError(f"objective 'flow_matching': prediction '{self.prediction}'; use v or x0")
        if self.shift <= 0 or self.reference_tokens < 0:
            raise MaquetteError("objective 'flow_matching': shift must be positive, reference_tokens at least 0")


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
        return draw_noise(batch), self.shift(self.draw_times(len(x0), x0.device), batch)

    def shift(self, t: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Times [B] moved towards the noise, each as its sample's number of tokens or of grid cells wants it."""
        if not self.config.reference_tokens:
            return t if self.config.shift == 1 else shifted(t, self.config.shift)
        x0, mask = batch["latent"], batch.get("token_mask")
        on_axes = x0.shape[1] if "positions" in batch else x0[0, 0].numel()
        tokens = torch.full_like(t, on_axes) if mask is None else mask.sum(dim=1).to(t.dtype)
        return shifted(t, resolution_shift(tokens, self.config.reference_tokens, self.config.shift))

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Mean squared error of the velocity on `latent` [B,C,L,L,L] under the batch's condition.

        Or on tokens [B,N,C], in a batch with their `positions` [B,N,3]; those that `token_mask` [B,N] says count.

        Returns:
            loss; `velocity`, the error alone, and `balance` where the model has experts; `per_sample`, see `loss`.
        """
        drawn = self.draw(batch)
        terms = self.loss(model(*self.inputs(model, batch, drawn)), self.target(batch, drawn))
        return balanced(terms, model, self.config.balance_weight)

    def inputs(
        self, model: nn.Module, batch: Mapping[str, Any], drawn: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
        """The model's arguments: x_t, t and the prepared condition. `model` needs its conditioner alone.

        Raises:
            MaquetteError: the model predicts something else than the objective trains.
        """
        if prediction_of(model) != self.config.prediction:
            raise MaquetteError(
                f"the objective trains prediction '{self.config.prediction}', but the model gives "
                f"'{prediction_of(model)}'; set model.prediction and objective.prediction to the same"
            )
        noise, t = drawn or self.draw(batch)
        return between(batch["latent"], noise, t), t, prepare(model, batch)

    def target(self, batch: Mapping[str, Any], drawn: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
        """What `loss` compares the model's output with: the velocity, the times [B] and, of tokens, the mask."""
        noise, t = drawn or self.draw(batch)
        mask = {"token_mask": batch["token_mask"]} if "token_mask" in batch else {}
        if self.config.prediction == "v":
            return {"velocity": noise - batch["latent"], "t": t, **mask}
        x = between(batch["latent"], noise, t)
        return {"velocity": velocity_of("x0", batch["latent"], x, t), "x": x, "t": t, **mask}

    def loss(self, output: Tensor, target: Mapping[str, Tensor]) -> dict[str, Any]:
        """The mean squared error; beside it that of each sample and its time, detached float32 [B], in
        `per_sample`."""
        velocity = output.float()
        if "x" in target:
            velocity = velocity_of("x0", velocity, target["x"], target["t"])
        if "token_mask" in target:
            error = squared_error(velocity, target["velocity"], target["token_mask"])
            return {"loss": error.mean(), "per_sample": {"loss": error.detach(), "t": target["t"]}}
        error = squared_error(velocity.detach(), target["velocity"])
        return {"loss": F.mse_loss(velocity, target["velocity"]), "per_sample": {"loss": error, "t": target["t"]}}


def between(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The point x_t [B,...] of the straight line from data to noise, at times [B]."""
    spread = t.view(-1, *[1] * (noise.ndim - 1))
    return (1 - spread) * x0 + spread * noise


def prepare(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The model's condition: what its conditioner makes of a batch, and what a batch of tokens says of them."""
    return {**model.conditioner.prepare(batch), **{key: batch[key] for key in TOKEN_FIELDS if key in batch}}


def draw_noise(batch: Mapping[str, Any]) -> Tensor:
    """Noise of the shape of the batch's `latent`, for the samples of the batch under way."""
    x0 = batch["latent"]
    return token_noise(x0) if "positions" in batch else normal("noise", x0.shape, device=x0.device)


def token_noise(x0: Tensor) -> Tensor:
    """Noise for tokens [B,N,C]: a token's noise does not depend on how many are behind it, so padding changes nothing.

    A generator's numbers may depend on how many it is asked for at once; so they are drawn in runs of one length.
    """
    rows, tokens, channels = x0.shape
    runs = [
        normal(f"noise.{start}", (rows, NOISE_TOKENS, channels), device=x0.device)
        for start in range(0, tokens, NOISE_TOKENS)
    ]
    return torch.cat(runs, dim=1)[:, :tokens]


def squared_error(output: Tensor, velocity: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error [B] of each sample by itself; of tokens [B,N,C], over those that `mask` [B,N] says count.

    A batch's loss is their mean, however many tokens each has, so that it does not depend on how a batch is shared out.
    """
    if mask is None:
        return (output - velocity).square().flatten(1).mean(dim=1)
    error = (output - velocity).square().mean(dim=-1) * mask
    return error.sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def balanced(terms: dict[str, Any], model: nn.Module, weight: float) -> dict[str, Any]:
    """The terms with the balance loss of the last forward pass, where the model has experts."""
    balance = model.balance() if hasattr(model, "balance") else None
    if balance is None:
        return terms
    return {"velocity": terms["loss"], **terms, "loss": terms["loss"] + weight * balance, "balance": balance}
