"""maquette's diffusion transformer, which is also told over what span of time it gives the mean velocity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maquette_models.transformer.attention import cast_for
from maquette_models.transformer.diffusion_transformer import TIME_FREQUENCIES, time_features
from maquette_models.transformer.dit import DiT, DiTConfig
from maquette_models.transformer.rowwise import rowwise


@dataclass
class MeanFlowDiTConfig(DiTConfig):
    """As of `dit`."""


class MeanFlowDiT(DiT):
    """The mean velocity from t down to t - span; the span [B] is in the condition. Without one it is the velocity."""

    def __init__(self, config: MeanFlowDiTConfig) -> None:
        super().__init__(config)
        width = config.width
        self.span = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        for parameter in self.span[-1].parameters():  # starts as a plain flow
            nn.init.zeros_(parameter)

    def begin(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """As of `dit`, with the span added to what every block is modulated by."""
        span = condition.get("span", torch.zeros_like(t))
        if "tokens" not in condition:
            condition = self.encode_condition(condition)
        features = cast_for(self.span[0], time_features(span))
        pooled = condition["pooled"] + rowwise(self.span, features, self.training)
        return super().begin(x, t, {**condition, "pooled": pooled})

    def begin_parts(self) -> list[str]:
        """The children, parameters and buffers that `begin` uses."""
        return [*super().begin_parts(), "span"]

    def new_weights(self) -> list[str]:
        """What a run of `dit` that this one starts from lacks."""
        return [*super().new_weights(), "span."]
