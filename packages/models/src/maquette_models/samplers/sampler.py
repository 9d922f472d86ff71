"""What all samplers share: the times, the state that goes from step to step, and the loop over them.

A step is a pure function of a state and two times, and holds nothing. A server may therefore batch requests step by
step: rows may be at different times, join and leave (`State.join`, `State.rows`); each ends with the bits it has alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from maquette_models.samplers.timesteps import timesteps

Velocity = Callable[[Tensor, Tensor], Tensor]
"""velocity(x [B,...], t scalar or [B]) -> [B,...]"""


@dataclass(frozen=True)
class State:
    """Samples under way.

    Args:
        x: [B,...].
        past: what a multi-step method remembers of each sample, [B,...] or [B] each; empty for one-step methods.
    """

    x: Tensor
    past: tuple[Tensor, ...] = ()

    def rows(self, index: slice | Tensor) -> State:
        """Some of the samples."""
        return State(self.x[index], tuple(tensor[index] for tensor in self.past))

    @staticmethod
    def join(states: Sequence[State]) -> State:
        """The samples of several states of one sampler."""
        past = zip(*(state.past for state in states), strict=True)
        return State(torch.cat([state.x for state in states]), tuple(torch.cat(tensors) for tensors in past))


class SamplerConfig(Protocol):
    """What every sampler can be told: `shift` above 1 spends more steps near the noise."""

    steps: int
    shift: float


class Sampler:
    """Follows a velocity from noise at t=1 to data at t=0.

    Raises:
        MaquetteError: no steps, or a shift that is not positive.
    """

    def __init__(self, config: SamplerConfig) -> None:
        timesteps(config.steps, config.shift)
        self.config = config

    def start(self, noise: Tensor) -> State:
        """The state before the first step, from noise [B,...]."""
        return State(noise)

    def step(self, velocity: Velocity, state: State, t: Tensor, t_next: Tensor) -> State:
        """The state at `t_next` from the state at `t`, both scalars or [B] and `t_next` not above `t`.

        Rows with `t_next` equal to `t` stay where they are.
        """
        raise NotImplementedError

    def times(self, steps: int | None = None) -> Tensor:
        """The times of `steps` steps (the configured number if None), float32 [steps + 1], from 1 to 0."""
        return timesteps(steps or self.config.steps, self.config.shift)

    def sample(self, velocity: Velocity, noise: Tensor, steps: int | None = None) -> Tensor:
        """The data that a noise [B,...] flows to, in `steps` steps (the configured number if None)."""
        state = self.start(noise)
        for t, t_next in pairwise(self.times(steps).to(noise.device)):
            state = self.step(velocity, state, t, t_next)
        return state.x


def over(value: Tensor, x: Tensor) -> Tensor:
    """A scalar or [B], in the shape to meet x [B,...] and, where it is finer, in its dtype."""
    value = value.to(x.dtype) if value.dtype == torch.float64 else value
    return value if value.ndim == 0 else value.view(-1, *[1] * (x.ndim - 1))
