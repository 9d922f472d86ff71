"""Orders of convergence on a flow whose solution is known, and the times."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_models.samplers.timesteps import resolution_shift, shifted, timesteps

MEAN, STD = 1.5, 0.4
ORDERS = {"euler": 1, "heun": 2, "ab2": 2, "dpmpp_2m": 2, "unipc": 3}


def sampler(name: str, **keys: Any) -> Any:
    return plugins.build("samplers", {"name": name, **keys})


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[eps - x0 | x_t] for x0 ~ N(MEAN, STD^2), x_t = (1-t) x0 + t eps."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    slope = (t - (1 - t) * STD**2) / variance
    return -MEAN + slope * (x - (1 - t) * MEAN)


def solution(noise: Tensor, t: float) -> Tensor:
    """Where the flow has carried a noise by time t: from N(0,1) to N((1-t) MEAN, variance at t), monotonically."""
    return (1 - t) * MEAN + ((1 - t) ** 2 * STD**2 + t**2) ** 0.5 * noise


def error(name: str, steps: int, start: float = 1.0, end: float = 0.0) -> float:
    """Distance to the exact solution at `end`, from the exact one at `start`."""
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)
    method = sampler(name)
    state = method.start(solution(noise, start))
    for t, t_next in pairwise(torch.linspace(start, end, steps + 1, dtype=torch.float64)):
        state = method.step(gaussian_velocity, state, t, t_next)
    return (state.x - solution(noise, end)).abs().max().item()


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence_away_from_the_ends(name: str) -> None:
    """UniPC's corrector adds an order to its predictor's."""
    ratio = error(name, 80, 0.9, 0.1) / error(name, 160, 0.9, 0.1)
    assert 2 ** ORDERS[name] * 0.8 < ratio < 2 ** (ORDERS[name] + 1)


@pytest.mark.parametrize("name", ORDERS)
def test_whole_flows_converge(name: str) -> None:
    assert error(name, 256) < 0.3 * error(name, 64) < 0.3 * error("euler", 32)


def test_higher_orders_are_nearer_for_the_same_evaluations() -> None:
    for name, steps in (("heun", 20), ("ab2", 40), ("dpmpp_2m", 40), ("unipc", 40)):
        assert error(name, steps) < 0.3 * error("euler", 40)


@pytest.mark.parametrize("name", ORDERS)
@given(steps=st.integers(1, 12), shift=st.floats(0.2, 6.0), speed=st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_straight_lines_are_exact(name: str, steps: int, shift: float, speed: float) -> None:
    """A constant velocity, as between one noise and one sample: any method, any steps."""
    noise = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)
    sample = sampler(name, shift=shift).sample(lambda x, t: torch.full_like(x, speed), noise, steps)
    torch.testing.assert_close(sample, noise - speed, atol=1e-5, rtol=0)


def test_timesteps() -> None:
    t = timesteps(10, 3.0)
    assert t[0] == 1 and t[-1] == 0 and (t.diff() < 0).all()
    assert t[5].item() == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    torch.testing.assert_close(timesteps(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


@given(first=st.floats(0.2, 5.0), second=st.floats(0.2, 5.0))
def test_shifts_compose(first: float, second: float) -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(shifted(shifted(t, first), second), shifted(t, first * second))


def test_four_times_the_tokens_have_twice_the_shift() -> None:
    assert resolution_shift(1024, 256, 1.5) == pytest.approx(3.0)
    torch.testing.assert_close(resolution_shift(torch.tensor([64.0, 256.0]), 64), torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("bad", [{"steps": 0}, {"steps": 4, "shift": 0.0}])
def test_bad_settings_are_refused(name: str, bad: dict[str, Any]) -> None:
    with pytest.raises(MaquetteError, match="sampler"):
        sampler(name, **bad)
