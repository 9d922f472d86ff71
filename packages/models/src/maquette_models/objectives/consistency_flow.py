"""Few-step sampling: from anywhere in a segment of the flow, one step of the student reaches the segment's end.

Consistency distillation (Song et al., "Consistency Models", 2023) of a flow in segments (Kim et al., "Generalized
Consistency Trajectory Models"; Yang et al., "Consistency Flow Matching", 2024), with guidance as an input and a Huber
loss as in FlashVDM (Lai et al., 2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maquette.engine.ema import WeightAverages
from maquette.engine.randomness import uniform
from maquette.errors import MaquetteError
from maquette_models.objectives.distillation import Distillation, DistillationConfig
from maquette_models.objectives.flow_matching import balanced, between, draw_noise, squared_error
from maquette_models.samplers.sampler import over
from maquette_models.samplers.timesteps import timesteps


@dataclass
class ConsistencyFlowConfig(DistillationConfig):
    """The flow is cut into `segments` of `substeps` teacher's steps each, at the times of an Euler sampler of
    `segments` steps and the same `shift`: sample with that one.

    Targets come from the first of `train.ema_decays`. `huber` is the error of the velocity, the root of a sample's mean
    square, from which on the loss grows linearly.
    """

    shift: float = 1.5
    segments: int = 4
    substeps: int = 8
    huber: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.segments, self.substeps) < 1 or self.huber <= 0:
            raise MaquetteError("objective 'consistency_flow': segments and substeps are at least 1, huber positive")


class ConsistencyFlow(Distillation):
    """The step from t to the segment's end is to lead where the teacher's next step and, behind it, one step of the
    averaged student lead."""

    averages: WeightAverages | None = None

    def __init__(self, config: ConsistencyFlowConfig) -> None:
        super().__init__(config)
        self.segments, self.substeps, self.huber = config.segments, config.substeps, config.huber
        self.times = timesteps(config.segments * config.substeps, config.shift)

    def follow(self, averages: Sequence[WeightAverages]) -> None:
        """Take targets from a run's averaged weights; they are in its checkpoints, so that resuming is exact.

        Raises:
            MaquetteError: the run keeps none, or cuts the model into pipeline stages.
        """
        if len(averages) != 1 or not averages[0].weights:
            raise MaquetteError(
                "objective 'consistency_flow' needs an average of the whole model; set train.ema_decays"
            )
        self.averages = averages[0]

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Huber loss of the mean velocity to the segment's end, on `latent` [B,C,L,L,L] or tokens [B,N,C].

        Returns:
            loss; `velocity`, the mean squared error; `per_sample`, as of flow matching.
        """
        t, t_next, end = self.draw_times(batch)
        x, prepared = between(batch["latent"], draw_noise(batch), t), self.prepare(model, batch)
        target = self.mean_velocity(model, x, (t, t_next, end), prepared)
        error = squared_error(self.velocity(model, x, t, prepared), target, batch.get("token_mask"))
        loss = ((error + self.huber**2).sqrt() - self.huber).mean()
        terms = {"loss": loss, "velocity": error.mean(), "per_sample": {"loss": error.detach(), "t": t}}
        return balanced(terms, model, self.config.balance_weight)

    def draw_times(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """A time of the teacher's, its next one, and the end of their segment, [B] each."""
        x0 = batch["latent"]
        count = self.segments * self.substeps
        place = (uniform("time", (len(x0),), device=x0.device) * count).long().clamp(max=count - 1)
        times = self.times.to(x0.device)
        return times[place], times[place + 1], times[(place // self.substeps + 1) * self.substeps]

    @torch.no_grad()
    def mean_velocity(
        self, model: nn.Module, x: Tensor, times: tuple[Tensor, Tensor, Tensor], prepared: Mapping[str, Tensor]
    ) -> Tensor:
        """The constant velocity [B,...] that leads from x at t to where teacher and averaged student lead."""
        t, t_next, end = times
        there = x + over(t_next - t, x) * self.taught(x, t, prepared)
        with self.averaged(model):
            onwards = self.velocity(model, there, t_next, prepared)
        return (there + over(end - t_next, x) * onwards - x) / over(end - t, x)

    def averaged(self, model: nn.Module) -> AbstractContextManager[None]:
        """The model with its averaged weights; a model that is judged is its own measure."""
        if self.averages is None or not model.training:
            return nullcontext()
        return self.averages.swapped(model)
