"""Steps that are not finite: skipped, rolled back, given up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette.engine.anomalies import AnomalyGuard, Rollback, all_finite
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.testing import run_ranks


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 6))
def test_bad_steps_are_skipped_until_there_are_too_many_in_a_row(finite, skips):
    guard, row, skipped = AnomalyGuard(skips), 0, 0
    for step, good in enumerate(finite):
        row = 0 if good else row + 1
        if row > skips:
            with pytest.raises(Rollback) as caught:
                guard.admit(step, good)
            assert (caught.value.step, caught.value.first) == (step, step - skips)
            return
        assert guard.admit(step, good) == good
        skipped += not good
        assert guard.skipped == skipped


def test_without_skipping_the_first_one_is_an_error():
    guard = AnomalyGuard(0)
    assert guard.admit(0, True)
    with pytest.raises(MaquetteError, match=r"step 1: .*not finite; the weights are untouched"):
        guard.admit(1, False)


def go_back(guard: AnomalyGuard, start: int, bad_from: int) -> int:
    """Steps from ``start`` on, bad from ``bad_from`` on, until the guard wants to go back; the step it says."""
    for step in range(start, bad_from + 100):
        try:
            guard.admit(step, step < bad_from)
        except Rollback as rollback:
            return rollback.step
    raise AssertionError("no rollback")


def test_going_back_without_getting_further_is_given_up():
    guard = AnomalyGuard(2, rollbacks=3)
    for _ in range(3):
        assert go_back(guard, 10, 20) == 22
    with pytest.raises(MaquetteError, match="going back 3 times"):
        go_back(guard, 10, 20)


def test_getting_further_counts_as_progress():
    guard = AnomalyGuard(2, rollbacks=1)
    for bad_from in (20, 30, 40):
        assert go_back(guard, 10, bad_from) == bad_from + 2


def test_the_counts_travel_as_plain_data():
    guard = AnomalyGuard(3)
    for step, finite in enumerate([True, False, True, False, False]):
        guard.admit(step, finite)
    resumed = AnomalyGuard(3)
    resumed.load_state(guard.state())
    assert vars(resumed) == vars(guard) and resumed.skipped == 3
    assert not resumed.admit(5, False)
    with pytest.raises(Rollback):
        resumed.admit(6, False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_loss_and_norm_must_both_be_finite(bad):
    one = torch.tensor(1.0)
    assert all_finite(one, one)
    assert not all_finite(torch.tensor(bad), one)
    assert not all_finite(one, torch.tensor(bad))
    assert not all_finite(torch.tensor(bad), torch.tensor(-bad))


def verdicts() -> list[bool]:
    mesh = Mesh(Layout(data=2))
    good, bad = torch.tensor(1.0), torch.tensor(float("inf"))
    return [all_finite(loss, good, mesh) for loss in (good, bad if mesh.rank == 1 else good, bad)]


def test_one_bad_process_is_enough_and_all_agree():
    assert run_ranks(verdicts, 2) == [[True, False, False]] * 2
