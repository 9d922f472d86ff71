"""Euler's method along the flow: one velocity a step, first order."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from maquette_models.samplers.sampler import Sampler, State, Velocity, over


@dataclass
class EulerConfig:
    """`shift` above 1 spends more steps near the noise."""

    steps: int = 20
    shift: float = 1.0


class Euler(Sampler):
    """x at `t_next` is x at `t` along the velocity there."""

    def step(self, velocity: Velocity, state: State, t: Tensor, t_next: Tensor) -> State:
        """The state at `t_next`; nothing is remembered."""
        return State(state.x + over(t_next - t, state.x) * velocity(state.x, t))
