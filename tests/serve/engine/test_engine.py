"""The engine on a virtual clock: shares, passes, cancels, and lets one failure be one job's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from tests.serve.engine import virtual_engine as virtual

ARRIVALS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 50), st.integers(1, 9), st.sampled_from("abc"), st.integers(-1, 1)),
    min_size=1,
    max_size=14,
)


@given(ARRIVALS, st.integers(1, 5), st.integers(1, 6))
def test_what_comes_of_a_job_depends_on_it_alone(arrivals, rows, active):
    engine, _, clock = virtual.make(rows, active=active)
    watches = []
    for ticks, seed, steps, client, priority in arrivals:
        for _ in range(ticks):
            engine.tick()
        watches.append(virtual.Watch(clock))
        engine.submit(virtual.order(seed, steps, client=client, priority=priority), watches[-1])
    virtual.finish(engine)
    for (_, seed, steps, _, _), watch in zip(arrivals, watches, strict=True):
        value = 1
        for _ in range(steps):
            value = (value * 31 + seed) % 1009
        if value == 7:
            assert watch.events[-1].error == "seven is not liked"
        else:
            assert watch.events[-1].delivered.metadata["value"] == 2 * value
        shown = [event.progress for event in watch.events]
        assert shown == sorted(shown)
    assert not engine.jobs


@given(ARRIVALS, st.integers(1, 5))
def test_passes_are_full_where_jobs_are_waiting(arrivals, rows):
    engine, pipeline, clock = virtual.make(rows)
    for _, seed, steps, client, priority in arrivals:
        engine.submit(virtual.order(seed, steps, client=client, priority=priority), virtual.Watch(clock))
    virtual.finish(engine)
    assert max(pipeline.stage.passes) <= rows
    assert sum(pipeline.stage.passes) == sum(steps for _, _, steps, _, _ in arrivals)


@given(st.integers(1, 4), st.integers(5, 40), st.floats(5, 50))
def test_a_long_job_is_not_passed_for_ever(rows, steps, ageing):
    """Short jobs arrive as fast as the device can do them, and one of a higher priority now and then."""
    engine, _, clock = virtual.make(rows, ageing)
    long = virtual.Watch(clock)
    engine.submit(virtual.order(steps=steps), long)
    for number in range(2000):
        if long.ended is not None:
            break
        for _ in range(rows):
            engine.submit(virtual.order(number, 1, priority=number % 2), virtual.Watch(clock))
        engine.tick()
        engine.tick()
    # Only those that come within two levels of its arrival can ever pass it.
    assert long.ended is not None
    assert long.ended <= 2 * ageing + (2 * ageing / rows + 3) * rows + steps + 20


def test_short_jobs_pass_long_ones():
    engine, _, clock = virtual.make(rows=1, ageing=1e9)
    watches = [virtual.Watch(clock) for _ in range(4)]
    for watch in watches[:3]:
        engine.submit(virtual.order(steps=50), watch)
    for _ in range(40):
        engine.tick()
    engine.submit(virtual.order(steps=4), watches[3])
    arrived = clock()
    virtual.finish(engine)
    assert watches[3].ended - arrived <= 5


def test_clients_share_the_device_however_much_they_ask_for():
    engine, _, clock = virtual.make(rows=1, ageing=1e9)
    greedy = [virtual.Watch(clock) for _ in range(20)]
    for watch in greedy:
        engine.submit(virtual.order(steps=10, client="greedy"), watch)
    for _ in range(60):
        engine.tick()
    modest = virtual.Watch(clock)
    engine.submit(virtual.order(steps=10, client="modest"), modest)
    start = clock()
    virtual.finish(engine)
    assert modest.ended - start <= 22


def test_priority_goes_first():
    engine, _, clock = virtual.make(rows=1, ageing=1e9)
    low, high = virtual.Watch(clock), virtual.Watch(clock)
    engine.submit(virtual.order(steps=10), low)
    engine.tick()
    engine.submit(virtual.order(steps=10, priority=1), high)
    virtual.finish(engine)
    assert high.ended < low.ended


@given(st.integers(0, 8))
def test_a_cancelled_job_takes_no_pass_more(ticks):
    engine, pipeline, clock = virtual.make(rows=1)
    watch = virtual.Watch(clock)
    number = engine.submit(virtual.order(steps=10), watch)
    for _ in range(ticks):
        engine.tick()
    passes = len(pipeline.stage.passes)
    engine.cancel(number)
    assert not engine.tick()
    assert watch.kind == "cancelled"
    assert len(pipeline.stage.passes) == passes
    assert not engine.jobs


def test_a_fault_is_one_jobs_own():
    engine, _, clock = virtual.make(rows=4)
    watches = [virtual.Watch(clock) for _ in range(3)]
    for watch, seed in zip(watches, (1, -1, 2), strict=True):
        engine.submit(virtual.order(seed, 3), watch)
    virtual.finish(engine)
    assert [watch.kind for watch in watches] == ["succeeded", "failed", "succeeded"]
    assert watches[1].events[-1].error == "internal error (RuntimeError); it is logged"


def test_refusals_and_deadlines_say_why():
    engine, _, clock = virtual.make(rows=1)
    refused, late = virtual.Watch(clock), virtual.Watch(clock)
    engine.submit(virtual.order(prompt="refused"), refused)
    engine.submit(virtual.order(steps=30, deadline=5.0), late)
    virtual.finish(engine)
    assert refused.events[-1].error == "this prompt is refused"
    assert late.events[-1].error == "not done within its deadline of 5 s"
    assert late.ended <= 7
    with pytest.raises(MaquetteError, match="unknown pipeline 'cuont'"):
        engine.submit(virtual.Order("cuont", virtual.Request()), refused)


def test_files_are_written_where_the_order_says(tmp_path):
    pytest.importorskip("maquette_data3d", reason="without maquette-data3d no mesh can be written")
    engine, _, clock = virtual.make()
    watch, lost = virtual.Watch(clock), virtual.Watch(clock)
    engine.submit(virtual.order(files=("model.glb", "model.stl"), folder=tmp_path), watch)
    engine.submit(virtual.order(files=("model.nope",), folder=tmp_path), lost)
    virtual.finish(engine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.glb", "model.stl"]
    assert watch.events[-1].delivered.files == ("model.glb", "model.stl")
    assert "nope" in lost.events[-1].error
