"""UniPC of order 2 along the flow: a predictor and a corrector that share one evaluation a step.

Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", 2023, with
B(h) = exp(h) - 1. The predictor is that of DPM-Solver++ 2M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maquette_models.samplers.dpm_solver import bent, log_snr, towards
from maquette_models.samplers.sampler import Sampler, State, Velocity, over


@dataclass
class UniPCConfig:
    """`shift` above 1 spends more steps near the noise."""

    steps: int = 20
    shift: float = 1.0


class UniPC(Sampler):
    """Each evaluation first corrects the step that led to it, then predicts the next."""

    def start(self, noise: Tensor) -> State:
        """The past of each sample.

        It is the corrected x before the last step, the x0 predicted there and the one before, [B,...] each, and the
        times [B] of the two, 0 where there was none.
        """
        nothing, never = torch.zeros_like(noise), torch.zeros(len(noise), device=noise.device)
        return State(noise, (noise, nothing, nothing, never, never))

    def step(self, velocity: Velocity, state: State, t: Tensor, t_next: Tensor) -> State:
        """The state at `t_next`."""
        x_last, x0_last, _, t_last, _ = state.past
        x0 = state.x - over(t, state.x) * velocity(state.x, t)
        change = weighed_change(x0, t, state.past)
        corrected = towards(x_last, x0_last + change, t_last, t)
        x = torch.where(over(t_last > t, x0), corrected, state.x)
        x_next = towards(x, bent(x0, x0_last, t_last, t, t_next), t, t_next)
        return State(x_next, (x, x0, x0_last, t.expand_as(t_last), t_last))


def weighed_change(x0: Tensor, t: Tensor, past: tuple[Tensor, ...]) -> Tensor:
    """By how much the last x0 [B,...] was off, on the whole, in the step that led to `t`, where it is `x0`.

    Of the change of x0 over that step the half counts, if there was none before; otherwise the two changes count so
    that a parabola is met.
    """
    _, x0_last, x0_before, t_last, t_before = past
    step = log_snr(t) - log_snr(t_last)
    ratio = step / (log_snr(t_before) - log_snr(t_last))  # of this step's length to the one before, negative
    first = torch.expm1(-step) / -step - 1
    second = 2 * (first / -step - 0.5)
    older = (second - first) / torch.expm1(-step) * ratio / (1 - ratio)
    newer = first / torch.expm1(-step) - older
    two = t_before > t_last
    older, newer = torch.where(two, older * ratio, 0), torch.where(two, newer, 0.5)
    return over(older, x0) * (x0_before - x0_last) + over(newer, x0) * (x0 - x0_last)
