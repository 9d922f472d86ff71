"""Steps that look wrong: left out, rolled back, given up."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette.engine.anomalies import CORRUPTION, NONFINITE, SPIKE, AnomalyGuard, Rollback, all_finite
from maquette.engine.spikes import SpikeDetector
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.testing import run_ranks


@given(st.lists(st.sampled_from(["", NONFINITE, SPIKE]), max_size=60), st.integers(1, 6))
def test_bad_steps_are_skipped_until_there_are_too_many_in_a_row(troubles, skips):
    guard, row, skipped = AnomalyGuard(skips), 0, 0
    for step, trouble in enumerate(troubles):
        row = row + 1 if trouble else 0
        if row > skips:
            with pytest.raises(Rollback) as caught:
                guard.admit(step, trouble)
            assert (caught.value.kind, caught.value.step, caught.value.first) == (trouble, step, step - skips)
            return
        assert guard.admit(step, trouble) == (not trouble)
        skipped += bool(trouble)
        assert guard.skipped == skipped


def test_without_skipping_the_first_one_is_an_error():
    guard = AnomalyGuard(0)
    assert guard.admit(0)
    with pytest.raises(MaquetteError, match=r"step 1: .*not finite; the weights are untouched"):
        guard.admit(1, NONFINITE)


def go_back(guard: AnomalyGuard, bad_from: int, kind: str = NONFINITE) -> Rollback:
    """Bad steps from ``bad_from`` on until the guard wants to go back."""
    for step in range(bad_from, bad_from + 100):
        try:
            if guard.admit(step, kind):
                raise AssertionError(f"step {step} was admitted")
        except Rollback as rollback:
            return rollback
    raise AssertionError("no rollback")


def test_going_back_without_getting_further_is_given_up():
    guard = AnomalyGuard(2, rollbacks=3)
    attempts = [go_back(guard, first) for first in (20, 23, 26)]
    assert [rollback.attempt for rollback in attempts] == [1, 2, 3]
    with pytest.raises(MaquetteError, match="going back 3 times"):
        go_back(guard, 29)


def test_getting_further_counts_as_progress():
    guard = AnomalyGuard(2, rollbacks=1)
    for bad_from in (20, 30, 40):
        assert go_back(guard, bad_from).step == bad_from + 2


def test_what_led_to_a_row_is_left_out_first_then_all_since_the_checkpoint():
    assert Rollback(SPIKE, 22, 20).left_out(0) == range(17, 23)
    assert Rollback(SPIKE, 22, 20).left_out(19) == range(19, 23)
    assert Rollback(SPIKE, 22, 20, attempt=2).left_out(10) == range(10, 23)
    assert not Rollback(CORRUPTION, 22, 22).left_out(10), "the data is not to blame"


def test_losses_that_stay_up_are_another_level_and_no_error():
    guard = AnomalyGuard(2)
    assert go_back(guard, 20, SPIKE).attempt == 1
    assert [guard.admit(step, SPIKE) for step in (23, 24, 25)] == [False, False, True]


def test_the_counts_travel_as_plain_data():
    guard = AnomalyGuard(3)
    for step, trouble in enumerate(["", NONFINITE, "", NONFINITE, SPIKE]):
        guard.admit(step, trouble)
    guard.left_out = {7, 9}
    resumed = AnomalyGuard(3)
    resumed.load_state(guard.state())
    assert vars(resumed) == vars(guard) and resumed.skipped == 3
    assert not resumed.admit(5, NONFINITE)
    with pytest.raises(Rollback):
        resumed.admit(6, NONFINITE)


def judged(losses, threshold=20.0, window=64):
    """The places of the spikes among losses."""
    detector, found = SpikeDetector(threshold, window), []
    for place, loss in enumerate(losses):
        if detector.is_spike(loss):
            found.append(place)
        else:
            detector.observe(loss)
    return found


def test_a_spike_is_found_in_falling_noisy_losses_and_nothing_else():
    chance = random.Random(0)
    losses = [5.0 * 0.999**step * chance.lognormvariate(0, 0.4) for step in range(4000)]
    assert judged(losses) == []
    losses[2000] *= 40
    losses[3000:3003] = [losses[3000] * 60] * 3
    assert judged(losses) == [2000, 3000, 3001, 3002]
    assert judged(losses, threshold=0) == []


def test_a_loss_that_is_almost_constant_is_no_reason_for_alarm():
    assert judged([1.0 + 1e-6 * (step % 7) for step in range(200)] + [1.4]) == []
    assert judged([1.0] * 200 + [2.5]) == [200]
    assert judged([1.0] * 31 + [1e9]) == [], "half a window must be known"


def test_a_detector_goes_on_from_its_state():
    one = SpikeDetector(20.0, 16)
    for loss in (0.1, 0.7, 0.3) * 10:
        one.observe(loss)
    other = SpikeDetector(20.0, 16)
    other.load_state(one.state())
    assert other.limit() == one.limit() < float("inf") and other.losses.maxlen == 16


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_loss_and_norm_must_both_be_finite(bad):
    one = torch.tensor(1.0)
    assert all_finite(one, one) == (True, 1.0)
    assert not all_finite(torch.tensor(bad), one)[0]
    assert not all_finite(one, torch.tensor(bad))[0]
    assert not all_finite(torch.tensor(bad), torch.tensor(-bad))[0]


def verdicts() -> list[tuple[bool, float]]:
    mesh = Mesh(Layout(data=2))
    good, bad = torch.tensor(1.0 + 2 * mesh.rank), torch.tensor(float("inf"))
    return [all_finite(loss, torch.tensor(1.0), mesh) for loss in (good, bad if mesh.rank == 1 else good, bad)]


def test_one_bad_process_is_enough_and_all_agree():
    one, other = run_ranks(verdicts, 2)
    assert one == other and [finite for finite, _ in one] == [True, False, False] and one[0][1] == 2.0
