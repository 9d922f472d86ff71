"""The rank that is slow is named with the part that is, and no other; a clean run gives no alarm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette.json_lines import append_line
from maquette.monitor_config import MonitorConfig
from maquette.monitoring.collective_waits import CollectiveWaits
from maquette.monitoring.journal import journal_file
from maquette.monitoring.machine import Machine
from maquette.monitoring.monitor import Monitor, Who
from maquette.monitoring.step_clock import StepClock
from maquette.monitoring.stragglers import StragglerScores
from maquette.testing import run_ranks


def readings(times, host="node", work=0, io=0.0):
    """A rank's records of an interval from (data, compute, communication) of each."""
    return [
        {
            "host": host,
            "work": work,
            "host_values": {"host_pressure_io": io},
            "step_times": {"count": 5, "data": d, "compute": c, "communication": m, "total": d + c + m},
        }
        for d, c, m in times
    ]


FAST, SLOW_COMPUTE, SLOW_DATA = (0.01, 1.0, 0.5), (0.01, 1.5, 0.01), (0.8, 1.0, 0.01)


def test_the_slow_rank_is_named_with_its_host_and_the_part(tmp_path):
    scores = StragglerScores()
    (found,) = scores.judge({0: readings([FAST] * 6), 1: readings([SLOW_COMPUTE] * 6, "other")})
    assert (found.rank, found.host, found.part, found.against) == (1, "other", "compute", "rank 0")
    assert found.score == pytest.approx(1.01 / 1.51, abs=1e-3) and scores.scores[0] == 1
    (found,) = scores.judge({0: readings([SLOW_DATA] * 6, io=45.0), 1: readings([FAST] * 6)})
    assert (found.rank, found.part) == (0, "data") and "disks 45 %" in found.line


def test_pipeline_stages_are_compared_among_themselves():
    heavy = (0.01, 3.0, 0.1)
    ranks = {0: readings([FAST] * 6), 1: readings([heavy] * 6, work=1), 2: readings([heavy] * 6, work=1)}
    assert StragglerScores().judge(ranks) == []


def test_a_rank_slower_than_it_was_is_told_and_a_slow_network_is_nobodys_computing():
    scores = StragglerScores()
    assert scores.judge({0: readings([FAST] * 6)}) == []
    (found,) = scores.judge({0: readings([SLOW_COMPUTE] * 6)})
    assert (found.part, found.against) == ("compute", "its own best")
    scores = StragglerScores()
    scores.judge({0: readings([FAST] * 6), 1: readings([FAST] * 6)})
    crawling = (0.01, 1.0, 2.0)
    found = scores.judge({0: readings([crawling] * 6), 1: readings([crawling] * 6)})
    assert [(s.rank, s.part) for s in found] == [(0, "communication"), (1, "communication")]


def test_waiting_for_a_straggler_is_not_the_others_fault():
    scores = StragglerScores()
    scores.judge({0: readings([FAST] * 6), 1: readings([FAST] * 6)})
    found = scores.judge({0: readings([(0.01, 1.0, 4.0)] * 6), 1: readings([(0.01, 5.0, 0.01)] * 6)})
    assert [(s.rank, s.part) for s in found] == [(1, "compute")]


noise = st.floats(0.9, 1.1)


@given(st.lists(st.tuples(noise, noise), min_size=60, max_size=60), st.sets(st.integers(0, 59), max_size=12))
def test_no_alarm_in_an_hour_with_compilations_validations_and_slow_saves(times, odd):
    """An interval's readings are five minutes' of one a minute; up to a fifth of them hold one step of another kind."""
    scores = StragglerScores()
    slow = {place // 5: place for place in odd}.values()  # one in an interval of five
    for begin in range(0, 60, 5):
        ranks = [[], []]
        for place in range(begin, begin + 5):
            for rank, rows in enumerate(ranks):
                rows.append((0.01, times[place][rank] * (20.0 if place in slow and rank == 0 else 1.0), 0.1))
        assert scores.judge({rank: readings(rows) for rank, rows in enumerate(ranks)}) == []


def test_few_readings_and_cheap_differences_say_nothing():
    assert StragglerScores().judge({0: readings([FAST] * 3), 1: readings([SLOW_COMPUTE] * 3)}) == []
    cheap = {0: readings([(0.0, 0.01, 1.0)] * 6), 1: readings([(0.0, 0.02, 1.0)] * 6)}
    assert StragglerScores().judge(cheap) == []
    assert StragglerScores().judge({0: [], 1: [{"step_times": {"count": 0}}]}) == []


def test_a_rank_with_too_few_readings_has_not_recovered(tmp_path, capsys):
    told = []
    clock = StepClock()
    monitor = Monitor(
        tmp_path,
        Who(0, 2),
        clock,
        MonitorConfig(interval=1, straggler_interval=5),
        machine=lambda: Machine(tmp_path),
        progress=lambda: ("train", 0),
        record=lambda kind, **facts: told.append(kind),
    )

    def compared(*counts):
        for rank, (times, count) in enumerate(zip((FAST, SLOW_COMPUTE), counts, strict=True)):
            file = journal_file(tmp_path, rank)
            file.unlink(missing_ok=True)
            for row in readings([times] * count):
                append_line(file, row | {"time": time.time()})
        monitor._compare(time.time() - 60)

    compared(6, 6)
    compared(6, 2)
    compared(6, 6)
    assert told == ["straggler"] and "keeps up again" not in capsys.readouterr().err


def slow_rank(folder, part):
    """Two ranks that train; the second is slow in ``part``. What rank 0's monitor has recorded."""
    from maquette.parallel.layout import Layout
    from maquette.parallel.mesh import Mesh

    mesh, waits = Mesh(Layout(data=2)), CollectiveWaits()
    clock, told = StepClock(communication=waits.seconds), []
    monitor = Monitor(
        Path(folder),
        Who(mesh.rank, mesh.world),
        clock,
        MonitorConfig(interval=0.25, straggler_interval=2.5),
        machine=lambda: Machine(Path(folder)),
        progress=lambda: ("train", clock.steps),
        record=lambda kind, **facts: told.append((kind, facts)),
    )

    def loader():
        while True:
            time.sleep(0.2 if part == "data" and mesh.rank else 0.04)
            yield None

    over = time.monotonic() + 60
    with waits.measuring(), monitor.watching():
        for _ in clock.fetching(loader()):
            time.sleep(0.2 if part == "compute" and mesh.rank else 0.04)
            mesh.sum(torch.ones(10))
            clock.stepped()
            if mesh.any(bool(monitor.scores.scores) or time.monotonic() > over):
                break
    return told


@pytest.mark.parametrize("part", ["compute", "data", ""])
def test_two_processes_find_the_slow_one_and_none_in_a_clean_run(tmp_path, part):
    told, nothing = run_ranks(slow_rank, 2, str(tmp_path), part)
    assert nothing == []
    expected = [("straggler", 1, part)] if part else []
    assert [(kind, facts["straggler"], facts["part"]) for kind, facts in told] == expected
