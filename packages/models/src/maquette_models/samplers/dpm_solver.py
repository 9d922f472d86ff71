"""DPM-Solver++ 2M along the flow: one evaluation a step, second order in the logarithm of the signal-to-noise ratio.

Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022, algorithm 2. With
alpha = 1 - t and sigma = t, a step under a constant x0 is Euler's; the method bends x0 along its last change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maquette_models.samplers.sampler import Sampler, State, Velocity, over


@dataclass
class DPMSolverPP2MConfig:
    """`shift` above 1 spends more steps near the noise."""

    steps: int = 20
    shift: float = 1.0


class DPMSolverPP2M(Sampler):
    """The first step and the one to t = 0 are of first order."""

    def start(self, noise: Tensor) -> State:
        """The past is the last x0 [B,...] that was predicted and the time [B] of that, 0 before there was one."""
        return State(noise, (torch.zeros_like(noise), torch.zeros(len(noise), device=noise.device)))

    def step(self, velocity: Velocity, state: State, t: Tensor, t_next: Tensor) -> State:
        """The state at `t_next`."""
        before, t_before = state.past
        x0 = state.x - over(t, state.x) * velocity(state.x, t)
        x = towards(state.x, bent(x0, before, t_before, t, t_next), t, t_next)
        return State(x, (x0, t.expand_as(t_before)))


def log_snr(t: Tensor) -> Tensor:
    """Half the logarithm of the signal-to-noise ratio, log((1 - t) / t), float64; infinite at both ends."""
    wide = t.double()
    return torch.log1p(-wide) - torch.log(wide)


def towards(x: Tensor, x0: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """x [B,...] at `t` moved to `t_next` as if `x0` [B,...] were where it goes."""
    kept = over(t_next.double() / t.double().clamp(min=torch.finfo(torch.float32).tiny), x)
    kept = torch.where(over(t_next == t, x), 1, kept)
    return kept * x + (1 - kept) * x0


def bent(x0: Tensor, before: Tensor, t_before: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """The x0 [B,...] to go towards in a step of second order, from that at `t` and that at `t_before`.

    Where there is none before (`t_before` is not above `t`), where it was predicted from pure noise, or at the step to
    0, in which the logarithm is infinite, it is x0 itself.
    """
    usable = (t_before > t) & (t_before < 1) & (t_next > 0)
    share = (log_snr(t_next) - log_snr(t)) / (2 * (log_snr(t) - log_snr(t_before)))
    return x0 + over(torch.where(usable, share, 0), x0) * (x0 - before)
