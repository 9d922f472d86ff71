"""The Adams-Bashforth method of second order along the flow: one velocity a step, and the one before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maquette_models.samplers.sampler import Sampler, State, Velocity, over


@dataclass
class AB2Config:
    """`shift` above 1 spends more steps near the noise."""

    steps: int = 20
    shift: float = 1.0


class AB2(Sampler):
    """Follows the line through the last two velocities, for steps of any lengths; the first step is Euler's."""

    def start(self, noise: Tensor) -> State:
        """The past is the last velocity [B,...] and the length [B] of the last step, 0 before there was one."""
        return State(noise, (torch.zeros_like(noise), torch.zeros(len(noise), device=noise.device)))

    def step(self, velocity: Velocity, state: State, t: Tensor, t_next: Tensor) -> State:
        """The state at `t_next`."""
        before, span = state.past
        now, length = velocity(state.x, t), t - t_next
        share = torch.where(span > 0, length / (2 * span.clamp(min=torch.finfo(span.dtype).tiny)), 0)
        x = state.x - over(length, state.x) * (now + over(share, state.x) * (now - before))
        return State(x, (now, length.expand_as(span)))
