"""What passes cost: how large they are, who waits for whom, and what is refused."""

from __future__ import annotations

import math
import sys
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette.inference_device import VARIABLE
from maquette_serve.engine.calibration import PassCost, calibrate, measured
from maquette_serve.engine.call_queue import CallQueue
from maquette_serve.engine.engine_setup import EngineSetup, prepare, take_device
from maquette_serve.engine.memory import GIB, Peak, free_memory, told
from tests.serve.engine import virtual_engine as virtual


class Never(Executor):
    """Calls whose time comes when the test says so."""

    def __init__(self):
        self.under_way = []

    def submit(self, function, /, *arguments):
        self.under_way.append((function, Future()))
        return self.under_way[-1][1]

    def end_first(self):
        function, future = self.under_way.pop(0)
        future.set_result(function())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 3))
def test_the_most_urgent_call_is_made_next(urgencies, workers):
    pool, made = Never(), []
    queue = CallQueue(pool, workers)
    for urgency in urgencies:
        queue.submit(lambda urgency=urgency: urgency, made.append, urgency)
    while pool.under_way:
        assert len(pool.under_way) <= workers
        pool.end_first()
    assert sorted(made) == sorted(urgencies)
    assert made[workers:] == sorted(made[workers:])


def test_a_call_that_is_cancelled_while_it_waits_is_never_made():
    pool, made = Never(), []
    queue = CallQueue(pool, 1)
    futures = [queue.submit(lambda: 0, made.append, number) for number in range(3)]
    assert futures[1].cancel()
    while pool.under_way:
        pool.end_first()
    assert made == [0, 2]


def test_calls_of_several_threads_are_all_made():
    with ThreadPoolExecutor(3) as pool:
        queue = CallQueue(pool, 3)
        futures = []
        threads = [
            threading.Thread(target=lambda: futures.extend(queue.submit(lambda: 0, pow, n, 2) for n in range(50)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(future.result(10) for future in futures) == 4 * sum(n * n for n in range(50))


class Stage:
    """A pass takes a second, and half a second more for each row."""

    def __init__(self, clock):
        self.clock = clock

    def advance(self, flows):
        self.clock.now += 1 + 0.5 * len(flows)
        for flow in flows:
            flow.done += 1


def test_passes_are_as_large_as_is_worth_it_and_as_memory_allows():
    clock = virtual.Clock()
    flow = virtual.Flow(Stage(clock), seed=1, steps=3)
    cost = measured(flow, clock)
    assert flow.done == 0
    assert cost.seconds == {1: 1.5, 2: 2.0, 4: 3.0}  # longer ones are not tried
    assert cost.enough == 4
    assert PassCost(1, {1: 1.0, 8: 8.0}, {1: 0}).enough == 1
    assert PassCost(1, {1: 1.5, 8: 8.0, 16: 15.0}, {1: 10, 8: 80}).most(flow, memory=45) == 4
    flow.size = 3
    assert PassCost(1, {1: 1.5, 8: 8.0, 16: 15.0}, {1: 10, 8: 80}).most(flow, memory=65) == 2


def test_what_was_measured_counts_where_a_larger_pass_has_no_memory():
    class Small(Stage):
        def advance(self, flows):
            if len(flows) > 2:
                raise RuntimeError("out of memory")
            super().advance(flows)

    clock = virtual.Clock()
    assert measured(virtual.Flow(Small(clock), seed=1, steps=3), clock).seconds == {1: 1.5, 2: 2.0}


def test_without_a_limit_of_memory_passes_are_as_large_as_is_worth_it():
    assert PassCost(1, {1: 1.5, 8: 8.0}, {1: 10}).most(virtual.Flow(Stage(virtual.Clock()), 1, 3), math.inf) == 8


def test_a_pipeline_that_fails_without_a_request_keeps_none_from_starting():
    class Broken(virtual.Counting):
        def course(self, request):
            raise KeyError("mesh")
            yield

    clock = virtual.Clock()
    good = virtual.Counting(clock)
    assert list(calibrate({"broken": Broken(clock), "good": good}, virtual.Here(), 1, clock)) == [good.stage]


def test_a_request_that_cannot_fit_is_refused_with_the_sizes():
    engine, pipeline, clock = virtual.make()
    engine.costs, engine.memory = {pipeline.stage: PassCost(1, {1: 1.0}, {1: 3 * GIB})}, 2 * GIB
    watch = virtual.Watch(clock)
    engine.submit(virtual.order(), watch)
    virtual.finish(engine)
    assert "this needs about 3 GiB of memory, and the engine may use 2 GiB" in watch.events[-1].error
    assert not pipeline.stage.passes
    engine.memory = 3 * GIB
    engine.submit(virtual.order(), fits := virtual.Watch(clock))
    virtual.finish(engine)
    assert fits.kind == "succeeded"


def test_a_pipeline_is_measured_and_what_follows_it_too():
    clock = virtual.Clock()
    pipeline = virtual.Counting(clock)
    costs = calibrate({"count": pipeline}, virtual.Here(), 2, clock)
    assert costs[pipeline.stage].seconds == {1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}
    assert costs[pipeline.stage].enough == 8


def test_what_a_pipeline_cannot_do_is_said_at_the_start():
    setup = EngineSetup({}, weights="int8")
    with pytest.raises(MaquetteError, match="the pipeline of 'count' knows no --weights"):
        prepare("count", virtual.Counting(virtual.Clock()), setup)


def test_memory_is_measured_while_it_is_held():
    with Peak() as peak:
        held = bytearray(b"x" * 50_000_000)
    assert free_memory() > 0
    if sys.platform == "linux":
        assert 40e6 < peak.risen < 120e6
    assert told(len(held) * 100) == "4.7 GiB"


@pytest.mark.parametrize(("number", "device", "shared"), [(0, "cuda:0", 2), (1, "cuda:1", 1), (2, "cuda:0", 2)])
def test_engines_share_the_gpus_out(number: int, device: str, shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[torch.device] = []
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert take_device(EngineSetup({}, sharers=3, number=number)) == shared
    assert taken == [torch.device(device)]
    assert take_device(EngineSetup({}, sharers=3, number=number, device="cpu")) == 3 and len(taken) == 1
