"""Steps are taken over where the velocity hardly changes, and never where it does."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette_models.pipelines.step_cache import StepCache


def followed(tolerance: float, bend: float, steps: int = 20) -> tuple[int, float]:
    """Evaluations and where x ends, from 1, along the velocity 1 + bend * x."""
    x, cache, evaluations = torch.ones(1, 1), StepCache(tolerance), 0
    for _ in range(steps):
        if cache.serves(x):
            velocity, cache = cache.velocity, cache.reused()
        else:
            velocity, evaluations = 1 + bend * x, evaluations + 1
            cache = cache.evaluated(x, velocity)
        x = x - velocity / steps
    assert evaluations + cache.skipped == steps
    return evaluations, float(x)


def test_a_straight_way_is_evaluated_twice():
    evaluations, end = followed(0.01, 0.0)
    assert evaluations == 2
    assert abs(end) < 1e-5


@given(st.floats(0.2, 3), st.floats(0.01, 0.3))
def test_a_larger_tolerance_skips_more_and_stays_near(bend, tolerance):
    exact_evaluations, exact = followed(0.0, bend)
    few, near = followed(tolerance, bend)
    fewer, _ = followed(2 * tolerance, bend)
    assert exact_evaluations == 20
    assert fewer <= few <= 20
    assert abs(near - exact) <= 2 * tolerance * (1 + bend)
