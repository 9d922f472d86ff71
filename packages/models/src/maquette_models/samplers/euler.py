"""Euler's method along the flow: one velocity a step, first order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from maquette_models.samplers.timesteps import timesteps

Velocity = Callable[[Tensor, Tensor], Tensor]
"""velocity(x [B,...], t scalar) -> [B,...]"""


@dataclass
class EulerConfig:
    """`shift` above 1 spends more steps near the noise."""

    steps: int = 20
    shift: float = 1.0


def step(velocity: Velocity, x: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """x at `t_next`, from x at `t` along the velocity there. Keeps no state."""
    return x + (t_next - t) * velocity(x, t)


class Euler:
    """`sample` follows a velocity from noise at t=1 to data at t=0."""

    def __init__(self, config: EulerConfig) -> None:
        timesteps(config.steps, config.shift)
        self.config = config

    def sample(self, velocity: Velocity, noise: Tensor, steps: int | None = None) -> Tensor:
        """The data that a noise [B,...] flows to, in `steps` evaluations (the configured number if None)."""
        times = timesteps(steps or self.config.steps, self.config.shift).to(noise.device)
        x = noise
        for t, t_next in pairwise(times):
            x = step(velocity, x, t, t_next)
        return x
