"""Where the time of a step goes: every second is somebody's, and waiting is measured where it is done."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette.monitoring.collective_waits import CollectiveWaits
from maquette.monitoring.step_clock import StepClock
from maquette.testing import run_ranks


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@given(st.lists(st.tuples(*[st.floats(0, 10)] * 4), min_size=1, max_size=20))
def test_every_second_is_data_computing_communication_or_a_pause(steps):
    clock, communicated = Clock(), [0.0]
    meter = StepClock(clock, lambda: communicated[0])

    def batches():
        for data, *_ in steps:
            clock.now += data
            yield None

    for (_, compute, communication, pause), _ in zip(steps, meter.fetching(batches()), strict=True):
        clock.now += compute + communication
        communicated[0] += communication
        with meter.pausing():
            clock.now += pause
            communicated[0] += pause / 2  # e.g. validating, which reduces too
        meter.stepped()
    for step, (data, compute, communication, _) in zip(meter.last, steps, strict=True):
        found = (step.total, step.data, step.compute, step.communication)
        assert found == pytest.approx((data + compute + communication, data, compute, communication), abs=1e-6)
    assert meter.seconds + meter.paused == pytest.approx(clock.now - 100)
    assert meter.now() == pytest.approx(meter.seconds) and len(meter.since(0)) == len(steps)
    assert meter.since(clock.now) == []


class FakeEvent:
    """A stream whose collective takes 30 ms, seen by the host later."""

    passed = False
    made = 0

    def __init__(self):
        self.at = FakeEvent.made
        FakeEvent.made += 1

    def record(self):
        pass

    def query(self):
        return FakeEvent.passed

    def elapsed_time(self, later):
        return 30.0 * (later.at - self.at)


def test_on_a_stream_the_time_between_two_events_counts_once_it_has_passed(monkeypatch):
    monkeypatch.setattr(FakeEvent, "passed", False)
    waits = CollectiveWaits(FakeEvent)
    plain = torch.distributed.Work.wait
    with waits.measuring():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
        torch.distributed.all_reduce(torch.ones(1))
        torch.distributed.destroy_process_group()
        assert waits.seconds() == 0
        FakeEvent.passed = True
        assert waits.seconds() == pytest.approx(0.03)
    assert torch.distributed.Work.wait is plain


def waited(_):
    """Seconds in collectives of ranks of which the second comes late to each, and of FSDP with a late second rank."""
    from torch.distributed.fsdp import fully_shard

    from maquette.parallel.layout import Layout
    from maquette.parallel.mesh import Mesh

    mesh, waits = Mesh(Layout(data=2)), CollectiveWaits()
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    fully_shard(model)
    model(torch.ones(1, 8)).sum().backward()  # connects
    found = []
    with waits.measuring():
        for step in (lambda: mesh.sum(torch.ones(4)), lambda: model(torch.ones(1, 8)).sum().backward()):
            before = waits.seconds()
            for _ in range(4):
                time.sleep(0.2 * mesh.rank)
                step()
            found.append(waits.seconds() - before)
    return found


def test_the_rank_that_comes_last_waits_the_least_with_plain_sums_and_with_fsdp():
    first, second = run_ranks(waited, 2, None)
    for others, own in zip(first, second, strict=True):
        assert others > 0.6 and others > own + 0.3, (first, second)
