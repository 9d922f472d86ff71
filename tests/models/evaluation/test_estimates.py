"""Intervals against tables and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.report import Figure
from maquette_models.evaluation import estimates


def test_wilson_by_hand() -> None:
    figure = estimates.share(81, 263)  # Newcombe 1998, table I, method 3: .2553 to .3662
    assert figure.value == pytest.approx(81 / 263) and figure.n == 263
    assert figure.interval == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert estimates.share(0, 20).interval == pytest.approx((0, 0.1611), abs=1e-4)
    assert estimates.share(20, 20).interval == pytest.approx((0.8389, 1), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_in_its_interval(counts: tuple[int, int]) -> None:
    hits, n = counts
    low, high = estimates.share(hits, n).interval
    assert 0 <= low <= hits / n <= high <= 1


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        low, high = estimates.mean(rng.exponential(2.0, 60).tolist()).interval
        held += low <= 2.0 <= high
    assert 0.87 <= held / 200 <= 0.99
    assert estimates.mean([1.0, 2, 4]).interval == estimates.mean([1.0, 2, 4]).interval
    assert estimates.mean([3.0]).interval == (3.0, 3.0)


def test_difference_by_hand() -> None:
    # Newcombe 1998 (II), table II, method 10: 56/70 - 48/80 has .0524 to .3339.
    gap, interval = estimates.difference(estimates.share(48, 80), estimates.share(56, 70))
    assert gap == pytest.approx(0.2) and interval == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert estimates.difference(Figure(1.0, 5), Figure(3.0, 5)) == (2.0, None)
