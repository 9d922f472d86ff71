"""How requests go through a pipeline step by step, so that they share forward passes and none waits for another.

A pipeline writes down the way of one request as a generator, a course. Where it needs something sampled it yields a
flow, where it needs something of the CPU alone, such as the extraction of a surface, a call, and is sent what came of
it; between pieces of its own work, such as chunks of decoding, it yields None. Whoever drives the courses, `together`
here or a serving engine, decides which flows are advanced next, and with whom, and where calls are made.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from maquette.errors import MaquetteError
from maquette.types import Asset, Request

Result = TypeVar("Result")


class Stage(Protocol):
    """Computes the steps of flows."""

    def advance(self, flows: Sequence[Any]) -> None:
        """One step of each of several flows of one key; the bits of none depend on the others."""


class Flow(Protocol):
    """A sampling under way.

    It may have a `size`, the numbers in its state: memory is in proportion to it. A step replaces what it holds, and
    changes none of it in place: `copy.copy` gives a flow of its own.
    """

    @property
    def stage(self) -> Stage:
        """Computes its steps."""

    @property
    def key(self) -> Hashable:
        """Flows of one key can be advanced together."""

    @property
    def steps(self) -> int:
        """In all."""

    @property
    def done(self) -> int:
        """How many of the steps are behind it."""

    @property
    def rows(self) -> int:
        """How many rows its next step takes of a forward pass: 2 where guidance asks for a second one."""

    @property
    def result(self) -> Any:
        """What came of it, once all steps are done."""


@dataclass(frozen=True)
class Call:
    """Work that needs no device: it may be done by another process, so all of it can be pickled."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


Course = Generator[Flow | Call | None, Any, Result]
"""The way of one request through a pipeline; it returns what is asked for, or raises a MaquetteError."""


class SteppedPipeline:
    """A pipeline whose requests go step by step. A request's asset depends on that request alone."""

    flows: int = 1
    """How many flows a request goes through, as a rule: for showing how far it is."""

    def course(self, request: Request) -> Course[Asset]:
        """The way of one request.

        Raises:
            MaquetteError: in the course, where the request cannot be met; says why.
        """
        raise NotImplementedError

    def __call__(self, request: Request) -> Asset:
        """The asset of one request; raises as its course does."""
        return alone(self.course(request))

    def batch(self, requests: Sequence[Request]) -> list[Asset | MaquetteError]:
        """The assets of several requests, in order, computed together; where one fails, its error in its place."""
        return together([self.course(request) for request in requests])


def alone(course: Course[Result]) -> Result:
    """What comes of one course, with nobody beside it; raises as it does."""
    result = together([course])[0]
    if isinstance(result, MaquetteError):
        raise result
    return result


def together(courses: Sequence[Course[Result]]) -> list[Result | MaquetteError]:
    """What comes of several courses, in order, or why one came to nothing. Flows of one key are advanced together."""
    results: dict[int, Result | MaquetteError] = {}
    flows: dict[int, Flow] = {}

    def go_on(number: int, sent: Any) -> None:
        course = courses[number]
        try:
            wish = course.send(sent)
            while wish is None or isinstance(wish, Call):
                wish = course.send(None) if wish is None else called(course, wish)
            flows[number] = wish
        except StopIteration as end:
            results[number] = end.value
        except MaquetteError as error:
            results[number] = error

    for number in range(len(courses)):
        go_on(number, None)
    while flows:
        groups: dict[Hashable, list[Flow]] = {}
        for flow in flows.values():
            groups.setdefault(flow.key, []).append(flow)
        for group in groups.values():
            group[0].stage.advance(group)
        for number, flow in list(flows.items()):
            if flow.done == flow.steps:
                del flows[number]
                go_on(number, flow.result)
    return [results[number] for number in range(len(courses))]


def called(course: Course[Any], call: Call) -> Flow | Call | None:
    """Makes a call here, and gives what the course wants next; a MaquetteError is the course's to deal with."""
    try:
        result = call.function(*call.arguments)
    except MaquetteError as error:
        return course.throw(error)
    return course.send(result)
