"""An engine on a clock of its own, with pipelines whose steps cost what they say."""

from __future__ import annotations

from concurrent.futures import Executor, Future

import numpy as np

from maquette.errors import MaquetteError
from maquette.stepping import Call, SteppedPipeline
from maquette.types import Asset, Mesh, Request
from maquette_serve.engine.engine import Engine
from maquette_serve.engine.job import ENDS, Order
from maquette_serve.engine.scheduler import Scheduler

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


class Clock:
    """Seconds that pass when somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Here(Executor):
    """Does calls at once."""

    def submit(self, function, /, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class Stage:
    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.passes = clock, seconds, []

    def advance(self, flows):
        self.passes.append(len(flows))
        self.clock.now += self.seconds
        for flow in flows:
            if flow.seed < 0:
                raise RuntimeError("a fault of the model")
        for flow in flows:
            flow.value = (flow.value * 31 + flow.seed) % 1009
            flow.done += 1


class Flow:
    rows = 1

    def __init__(self, stage, seed, steps):
        self.stage, self.key, self.seed, self.steps, self.done, self.value = stage, "one", seed, steps, 0, 1

    @property
    def result(self):
        return self.value


def doubled(value):
    if value == 7:
        raise MaquetteError("seven is not liked")
    return 2 * value


class Counting(SteppedPipeline):
    """A request of N steps and a seed comes to a number that depends on both."""

    def __init__(self, clock, seconds=1.0):
        self.stage = Stage(clock, seconds)

    def course(self, request: Request):
        if request.prompt == "refused":
            raise MaquetteError("this prompt is refused")
        yield None
        value = yield Flow(self.stage, request.seed, request.steps or 1)
        value = yield Call(doubled, (value,))
        return Asset(Mesh(CORNERS, FACES), {"value": value})


class Watch:
    """Notes what is reported of a job."""

    def __init__(self, clock):
        self.clock, self.events, self.ended = clock, [], None

    def __call__(self, event):
        assert self.ended is None, "something is reported after the end"
        self.events.append(event)
        if event.kind in ENDS:
            self.ended = self.clock()

    @property
    def kind(self):
        return self.events[-1].kind if self.events else None


def make(rows=4, ageing=20.0, seconds=1.0, active=64):
    clock = Clock()
    pipeline = Counting(clock, seconds)
    return Engine({"count": pipeline}, Here(), Scheduler(rows, ageing), active=active, clock=clock), pipeline, clock


def order(seed=1, steps=1, **settings):
    return Order("count", Request(settings.pop("prompt", ""), seed=seed, steps=steps), **settings)


def finish(engine):
    while engine.tick():
        pass
