"""Steps are pure: what a server does to states (join, split, rows at their own times) changes no bit of a sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from maquette import plugins
from maquette_models.samplers.sampler import State

NAMES = ("euler", "heun", "ab2", "dpmpp_2m", "unipc")


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """Bends with x and t, row by row."""
    spread = t if t.ndim == 0 else t.view(-1, *[1] * (x.ndim - 1))
    return torch.sin(3 * x + spread) * (1 + spread)


def sampler(name: str, steps: int) -> Any:
    return plugins.build("samplers", {"name": name, "steps": steps, "shift": 2.0})


@pytest.mark.parametrize("name", NAMES)
def test_requests_that_join_late_and_want_other_steps_get_the_bits_they_have_alone(name: str) -> None:
    torch.manual_seed(0)
    noises, counts, arrivals = torch.randn(3, 1, 2, 4), (4, 7, 3), (0, 2, 3)
    alone = [sampler(name, count).sample(velocity, noise) for noise, count in zip(noises, counts, strict=True)]

    method = sampler(name, 1)
    times = [method.times(count) for count in counts]
    states: dict[int, State] = {}
    ends = [arrival + count for arrival, count in zip(arrivals, counts, strict=True)]
    done: dict[int, Tensor] = {}
    for tick in range(max(ends)):
        states |= {i: method.start(noises[i]) for i in range(3) if arrivals[i] == tick}
        rows = list(states)
        now, following = (torch.stack([times[i][tick - arrivals[i] + k] for i in rows]) for k in (0, 1))
        state = method.step(velocity, State.join([states[i] for i in rows]), now, following)
        states = {i: state.rows(slice(place, place + 1)) for place, i in enumerate(rows)}
        done |= {i: states.pop(i).x for i in rows if ends[i] == tick + 1}
    for i in range(3):
        assert torch.equal(done[i], alone[i])


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_nothing_it_was_given(name: str) -> None:
    method = sampler(name, 3)
    state = method.start(torch.ones(2, 3))
    for t, t_next in pairwise(method.times()):
        kept = [tensor.clone() for tensor in (state.x, *state.past)]
        new = method.step(velocity, state, t, t_next)
        again = method.step(velocity, state, t, t_next)
        assert torch.equal(new.x, again.x)
        assert all(torch.equal(a, b) for a, b in zip(kept, (state.x, *state.past), strict=True))
        state = new


@pytest.mark.parametrize("name", NAMES)
def test_rows_whose_time_stands_still_stay(name: str) -> None:
    method = sampler(name, 4)
    state = method.start(torch.tensor([[0.3], [0.4]]))
    state = method.step(velocity, state, torch.tensor([1.0, 1.0]), torch.tensor([0.8, 0.6]))
    after = method.step(velocity, state, torch.tensor([0.8, 0.6]), torch.tensor([0.8, 0.5]))
    assert after.x.isfinite().all() and not torch.equal(after.x[1], state.x[1])
    if name != "unipc":  # whose corrector mends the step before
        torch.testing.assert_close(after.x[0], state.x[0])


@pytest.mark.parametrize(
    ("name", "evaluations"), [("euler", 6), ("heun", 11), ("ab2", 6), ("dpmpp_2m", 6), ("unipc", 6)]
)
def test_evaluations(name: str, evaluations: int) -> None:
    times: list[float] = []

    def counted(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t))
        return velocity(x, t)

    assert sampler(name, 6).sample(counted, torch.zeros(1, 2)).isfinite().all()
    assert len(times) == (11 if name == "heun" else 6) and min(times) > 0
