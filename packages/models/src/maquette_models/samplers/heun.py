"""Heun's method along the flow: two velocities a step, second order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maquette_models.samplers.sampler import Sampler, State, Velocity, over


@dataclass
class HeunConfig:
    """`steps` counts steps; the model is evaluated twice in each but the last."""

    steps: int = 12
    shift: float = 1.0


class Heun(Sampler):
    """x at `t_next` is x at `t` along the mean of the velocities at both ends.

    A step to t = 0 is Euler's: flows are trained on times above 0, and a model that predicts x0 has no velocity there
    (Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022, algorithm 1).
    """

    def step(self, velocity: Velocity, state: State, t: Tensor, t_next: Tensor) -> State:
        """The state at `t_next`; nothing is remembered."""
        span, start = over(t_next - t, state.x), velocity(state.x, t)
        euler = state.x + span * start
        if not bool((t_next > 0).any()):
            return State(euler)
        heun = state.x + span * 0.5 * (start + velocity(euler, t_next))
        return State(torch.where(over(t_next > 0, euler), heun, euler))
