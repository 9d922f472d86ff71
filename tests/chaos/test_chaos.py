"""The short form of `make chaos`: each kind of event once, and a signal in each phase; the long form is marked slow."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from maquette.testing import run_ranks

sys.path[:0] = [str(Path(__file__).parent)]

STORY = (("failpoint", "manifest.json"), ("rank", ""), ("damage", "bit flip"), ("launcher", ""))


def campaign(folder, world, story, words=()):
    """The summary of a few events, in a process without threads that has torch."""
    import chaos
    import harness

    harness.adopt_orphans()
    events = [chaos.Event(number, 10 + 8 * number, *what, number) for number, what in enumerate(story)]
    summary = chaos.Chaos(Path(folder), world, events, list(words))()
    return summary, chaos.held(summary)


def signals(folder, places, targets):
    """What came of a signal in each of some phases."""
    import harness
    from signals import held, signalled

    harness.adopt_orphans()
    outcomes = [signalled(Path(folder), place, target) for place, target in zip(places, targets, strict=True)]
    return outcomes, all(map(held, outcomes))


def test_kills_and_damage_leave_no_trace(tmp_path):
    ((summary, held),) = run_ranks(campaign, 1, str(tmp_path), 2, STORY, timeout=300)
    assert held, summary
    assert summary["corruptions_found"] == 1 and summary["kills_in_all"] == 4


def test_a_save_in_the_foreground_loses_at_most_one_interval(tmp_path):
    story = (("failpoint", "before the rename"),)
    ((summary, held),) = run_ranks(campaign, 1, str(tmp_path), 2, story, ("train.checkpoint_async=false",), timeout=300)
    assert held and summary["steps_lost"]["most"] <= summary["interval"], summary


def test_a_signal_before_the_first_step_or_in_a_validation_saves_on_all_ranks(tmp_path):
    ((outcomes, held),) = run_ranks(signals, 1, str(tmp_path / "run"), ("start", "validation"), (1, None), timeout=300)
    assert held, outcomes
    assert [outcome["checkpoint"] for outcome in outcomes] == [0, 7]


@pytest.mark.slow
def test_a_signal_in_any_phase_saves_on_all_ranks(tmp_path):
    import failpoints

    for target in (0, 1, None):
        places = failpoints.HOLDS
        ((outcomes, held),) = run_ranks(signals, 1, str(tmp_path / "run"), places, [target] * len(places), timeout=600)
        assert held, outcomes
