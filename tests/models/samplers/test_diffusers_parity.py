"""The same times and the same velocity field through diffusers' schedulers and through our samplers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from maquette import plugins

diffusers = pytest.importorskip("diffusers", reason="pip install -r requirements-dev.txt")

MULTISTEP = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": 2}
PEERS = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}, "shift"),
    "heun": ("FlowMatchHeunDiscreteScheduler", {}, "shift"),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {**MULTISTEP, "algorithm_type": "dpmsolver++"}, "flow_shift"),
    "unipc": ("UniPCMultistepScheduler", {**MULTISTEP, "solver_type": "bh2"}, "flow_shift"),
}


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """Towards the nearer of two modes; bends with time."""
    return x - torch.tanh(4 * x) + 0.3 * torch.sin(5 * t) * x


def theirs(name: str, noise: Tensor, steps: int, shift: float) -> tuple[Tensor, Tensor]:
    """The sample, and the times that were visited, 0 included."""
    kind, keys, shift_key = PEERS[name]
    scheduler: Any = getattr(diffusers, kind)(**keys, **{shift_key: shift})
    scheduler.set_timesteps(steps)
    x = noise
    exact = scheduler.timesteps / scheduler.config.num_train_timesteps
    if not scheduler.timesteps.is_floating_point():  # rounded for models of old; the steps use the exact times
        exact = scheduler.sigmas[:-1]
    for t, time in zip(scheduler.timesteps, exact, strict=True):
        x = scheduler.step(velocity(x, time), t, x).prev_sample
    return x, torch.unique_consecutive(scheduler.sigmas)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("steps", [4, 10, 25])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_samples_agree(name: str, steps: int, shift: float) -> None:
    noise = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    expected, times = theirs(name, noise, steps, shift)
    method = plugins.build("samplers", {"name": name})
    state = method.start(noise)
    for t, t_next in pairwise(times):
        state = method.step(velocity, state, t, t_next)
    assert times[-1] == 0 and not torch.allclose(expected, noise, atol=0.1)
    torch.testing.assert_close(state.x, expected, atol=1e-5, rtol=1e-5)
