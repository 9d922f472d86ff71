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

from maquette.errors import MaquetteError


@dataclass
class FlowMatchingConfig:
    """`time` is "logit_normal" (sigmoid of a normal with `mu` and `sigma`) or "uniform"."""

    time: str = "logit_normal"
    mu: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if self.time not in ("logit_normal", "uniform"):
            raise MaquetteError(f"objective 'flow_matching': time '{self.time}'; use logit_normal or uniform")


class FlowMatching:
    """x_t = (1-t) x0 + t eps; the target is eps - x0, so t = 1 is noise."""

    def __init__(self, config: FlowMatchingConfig) -> None:
        self.config = config

    def draw_times(self, batch_size: int, device: torch.device | None = None) -> Tensor:
        """Times in (0,1), float32 [B], from the global generator."""
        if self.config.time == "uniform":
            return torch.rand(batch_size, device=device)
        normal = torch.randn(batch_size, device=device)
        return torch.sigmoid(normal * self.config.sigma + self.config.mu)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Mean squared error of the velocity on `latent` [B,C,L,L,L] under the batch's condition."""
        x0 = batch["latent"]
        noise = torch.randn_like(x0)
        t = self.draw_times(len(x0), x0.device)
        spread = t.view(-1, *[1] * (x0.ndim - 1))
        velocity = model((1 - spread) * x0 + spread * noise, t, model.conditioner.prepare(batch))
        return {"loss": F.mse_loss(velocity.float(), noise - x0)}
