"""A student gives in one pass the velocity that its teacher gives by guidance in two.

Meng et al., "On Distillation of Guided Diffusion Models", 2023, stage one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from maquette_models.objectives.distillation import Distillation, DistillationConfig
from maquette_models.objectives.flow_matching import (
    FlowMatching,
    FlowMatchingConfig,
    balanced,
    between,
    squared_error,
)


@dataclass
class GuidanceDistillationConfig(DistillationConfig, FlowMatchingConfig):
    """A teacher and its guidance, and times as in flow matching."""

    def __post_init__(self) -> None:
        DistillationConfig.__post_init__(self)
        FlowMatchingConfig.__post_init__(self)


class GuidanceDistillation(Distillation):
    """Mean squared error to the guided teacher's velocity, at points between data and noise."""

    def __init__(self, config: GuidanceDistillationConfig) -> None:
        super().__init__(config)
        self.flow = FlowMatching(config)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        """`loss` and `per_sample`, as of flow matching, on `latent` [B,C,L,L,L] or tokens [B,N,C]."""
        noise, t = self.flow.draw(batch)
        x, prepared = between(batch["latent"], noise, t), self.prepare(model, batch)
        target = self.taught(x, t, prepared)
        error = squared_error(self.velocity(model, x, t, prepared), target, batch.get("token_mask"))
        terms = {"loss": error.mean(), "per_sample": {"loss": error.detach(), "t": t}}
        return balanced(terms, model, self.config.balance_weight)
