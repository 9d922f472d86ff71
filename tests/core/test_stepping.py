"""Courses driven together come to what they come to alone; failures stay with the request that failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette.stepping import Call, alone, together


class Counting:
    """A stage that notes how many flows each pass had."""

    def __init__(self):
        self.passes = []

    def advance(self, flows):
        assert len({flow.key for flow in flows}) == 1
        self.passes.append(len(flows))
        for flow in flows:
            flow.done += 1


class Steps:
    rows = 1

    def __init__(self, stage, steps, key="a"):
        self.stage, self.steps, self.key, self.done = stage, steps, key, 0

    @property
    def result(self):
        assert self.done == self.steps
        return self.steps


def course(stage, lengths, fail=False):
    total = 0
    for length in lengths:
        yield None
        total += yield Steps(stage, length, key=length % 2)
    if fail:
        raise MaquetteError("no luck")
    return total


@given(st.lists(st.tuples(st.lists(st.integers(1, 5), max_size=4), st.booleans()), max_size=6))
def test_together_is_as_alone(plans):
    results = together([course(Counting(), lengths, fail) for lengths, fail in plans])
    for (lengths, fail), result in zip(plans, results, strict=True):
        assert isinstance(result, MaquetteError) if fail else result == sum(lengths)


def test_flows_of_one_key_share_passes():
    stage = Counting()
    assert together([course(stage, [3]), course(stage, [5]), course(stage, [2])]) == [3, 5, 2]
    assert sorted(stage.passes) == [1, 1, 1, 1, 2, 2, 2]


def test_alone_raises_what_the_course_raises():
    with pytest.raises(MaquetteError, match="no luck"):
        alone(course(Counting(), [1], fail=True))


def failing(words):
    raise MaquetteError(words)


def calling(mends):
    three = yield Call(sum, ([1, 2],))
    try:
        yield Call(failing, ("torn",))
    except MaquetteError:
        if not mends:
            raise
    return three + (yield Steps(Counting(), 2))


def test_what_a_call_gives_or_raises_goes_to_the_course():
    good, bad = together([calling(mends=True), calling(mends=False)])
    assert good == 5
    assert str(bad) == "torn"
