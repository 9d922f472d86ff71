"""Heun's method along the flow: two velocities a step, second order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from maquette_models.samplers.euler import Velocity
from maquette_models.samplers.timesteps import timesteps


@dataclass
class HeunConfig:
    """`steps` counts steps; the model is evaluated twice in each."""

    steps: int = 12
    shift: float = 1.0


def step(velocity: Velocity, x: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """x at `t_next`, along the mean of the velocities at both ends. Keeps no state."""
    span = t_next - t
    start = velocity(x, t)
    return x + span * 0.5 * (start + velocity(x + span * start, t_next))


class Heun:
    """`sample` follows a velocity from noise at t=1 to data at t=0."""

    def __init__(self, config: HeunConfig) -> None:
        timesteps(config.steps, config.shift)
        self.config = config

    def sample(self, velocity: Velocity, noise: Tensor, steps: int | None = None) -> Tensor:
        """The data that a noise [B,...] flows to, in `steps` steps (the configured number if None)."""
        times = timesteps(steps or self.config.steps, self.config.shift).to(noise.device)
        x = noise
        for t, t_next in pairwise(times):
            x = step(velocity, x, t, t_next)
        return x
