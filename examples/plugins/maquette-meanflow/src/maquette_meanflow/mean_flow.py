"""The MeanFlow objective: learn the mean velocity over a span of time, so that one step crosses it.

The mean velocity u over [t - span, t] and the velocity v at t are bound by u = v - span * du/dt, the derivative being
the one along the path. It is taken by forward differentiation (torch.func.jvp), which maquette's operations support by
way of their references.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maquette.engine.randomness import normal, uniform
from maquette.errors import MaquetteError
from maquette_models.objectives.flow_matching import balanced, between, draw_noise, prepare, squared_error


@dataclass
class MeanFlowConfig:
    """Both ends of a span are logit-normal with `mu` and `sigma`; `instants` is the share of samples without a span.

    Errors weigh 1 / (error + weight_floor)^weight_power each, which keeps the few large ones in check.
    """

    mu: float = -0.4
    sigma: float = 1.0
    instants: float = 0.75
    weight_power: float = 1.0
    weight_floor: float = 1e-3
    balance_weight: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.instants <= 1:
            raise MaquetteError(f"objective 'mean_flow': instants {self.instants}; give a share from 0 to 1")


class MeanFlow:
    """For models that read `span` [B] in their condition, such as `mean_flow_dit`."""

    def __init__(self, config: MeanFlowConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Weighted squared error of the mean velocity, on `latent` [B,...].

        Returns:
            loss; `velocity`, the mean squared error without weights; `per_sample`, as of maquette's flow matching.
        """
        noise, (t, span) = draw_noise(batch), self.draw_times(batch)
        x, velocity = between(batch["latent"], noise, t), noise - batch["latent"]
        condition = model.encode_condition(prepare(model, batch))
        target = velocity - spread(span, x) * self.slopes(model, x, velocity, (t, span), condition)
        error = squared_error(model(x, t, {**condition, "span": span}).float(), target, batch.get("token_mask"))
        weight = (error.detach() + self.config.weight_floor) ** -self.config.weight_power
        terms = {"loss": (weight * error).mean(), "velocity": error.mean()}
        return balanced({**terms, "per_sample": {"loss": error.detach(), "t": t}}, model, self.config.balance_weight)

    def draw_times(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Times t and spans, [B] each, with 0 <= span <= t."""
        x0, config = batch["latent"], self.config
        shape = (len(x0),)
        pair = [torch.sigmoid(normal(name, shape, device=x0.device) * config.sigma + config.mu) for name in ("t", "r")]
        instant = uniform("instant", shape, device=x0.device) < config.instants
        t = torch.where(instant, pair[0], torch.maximum(*pair))
        return t, torch.where(instant, 0, t - torch.minimum(*pair))

    @torch.no_grad()
    def slopes(
        self,
        model: nn.Module,
        x: Tensor,
        velocity: Tensor,
        times: tuple[Tensor, Tensor],
        condition: Mapping[str, Tensor],
    ) -> Tensor:
        """du/dt [B,...] along the path, without autocast: x moves with the velocity, t and the span by one each.

        0 for samples without a span, which need none.
        """
        t, span = times
        moving = span.nonzero().squeeze(1)
        slopes = torch.zeros_like(velocity)
        if not len(moving):
            return slopes
        chosen = {key: value[moving] for key, value in condition.items()}
        fixed = {key: value.float() if value.is_floating_point() else value for key, value in chosen.items()}

        def mean_velocity(x: Tensor, t: Tensor, span: Tensor) -> Tensor:
            return model(x, t, {**fixed, "span": span})

        inputs, ones = (x[moving], t[moving], span[moving]), torch.ones_like(t[moving])
        with torch.autocast(x.device.type, enabled=False):
            _, slope = torch.func.jvp(mean_velocity, inputs, (velocity[moving], ones, ones))
        return slopes.index_copy(0, moving, slope.to(slopes.dtype))


def spread(values: Tensor, x: Tensor) -> Tensor:
    """[B] in the shape to meet x [B,...]."""
    return values.view(-1, *[1] * (x.ndim - 1))
