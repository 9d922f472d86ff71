"""What passes cost on this machine: measured once, when an engine starts, which also warms up what a request needs."""

from __future__ import annotations

import copy
import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.assets import Pipeline
from maquette.errors import MaquetteError
from maquette.stepping import Call, Course, Flow, Stage
from maquette.types import Request
from maquette_serve.engine.delivery import ordered
from maquette_serve.engine.job import Order
from maquette_serve.engine.memory import Peak, has_gpu

log = logging.getLogger("maquette.engine")
BATCHES = (1, 2, 4, 8)
"""Of how many flows the passes are that are timed."""
WORTH = 1.25
"""A pass is large enough when a larger one would cost each row no less than this part of its time."""
LONGEST = 2.0
"""Seconds; where a pass takes longer, no larger one is tried."""


@dataclass
class PassCost:
    """What the passes of one stage cost.

    Args:
        size: numbers in the state of the flow that was measured.
        seconds: of a pass by its rows.
        memory: bytes that a pass takes for a while, by its rows.
        after: bytes that what comes after the flow takes for a while: its decoding.
    """

    size: int
    seconds: dict[int, float] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    after: int = 0

    @property
    def enough(self) -> int:
        """Rows of the smallest pass in which each row costs about as little as in any."""
        cheapest = min(seconds / rows for rows, seconds in self.seconds.items())
        return min(rows for rows, seconds in self.seconds.items() if seconds / rows <= WORTH * cheapest)

    def most(self, flow: Flow, memory: float) -> int:
        """Rows of the largest pass of flows like this one that is worth it and fits into a memory."""
        fitting = self.enough if math.isinf(memory) else int(memory // max(self.need(flow, rows=1), 1))
        return max(min(self.enough, fitting), flow.rows)

    def need(self, flow: Flow, rows: int) -> float:
        """Bytes that a pass of so many rows of flows like this one takes for a while, in proportion to its size."""
        a_row = max(memory / measured for measured, memory in self.memory.items())
        return rows * a_row * size_of(flow) / self.size

    def need_alone(self, flow: Flow) -> float:
        """Bytes that a flow takes for a while where nobody is beside it: in its passes, or after them."""
        return max(self.need(flow, flow.rows), self.after * size_of(flow) / self.size)


Costs = Mapping[Stage, PassCost]


def size_of(flow: Flow) -> int:
    """Numbers in a flow's state; 1 where it does not tell."""
    return int(getattr(flow, "size", 1))


def calibrate(
    pipelines: Mapping[str, Pipeline], calls: Executor, workers: int, clock: Callable[[], float] | None = None
) -> dict[Stage, PassCost]:
    """What the passes of pipelines cost, by stage; those that make nothing of a bare request have no measured cost.

    The pool's workers are warmed up: each makes the calls of one request to each pipeline.
    """
    costs: dict[Stage, PassCost] = {}
    clock = clock or (time.perf_counter if has_gpu() else time.process_time)  # the latter whatever else runs
    for name, pipeline in pipelines.items():
        if not hasattr(pipeline, "course"):
            continue
        started = clock()
        with tempfile.TemporaryDirectory() as folder:
            order = Order(name, Request(steps=2), files=("model.glb", "thumbnail.png"), folder=Path(folder))
            try:
                _follow(ordered(pipeline, order), costs, lambda call: _called(calls, workers, call), clock)
            except MaquetteError as error:
                log.info("pipeline '%s' is not measured: %s", name, error)
            except Exception:  # a stranger's pipeline; requests to it are told of its fault, the others are served
                log.exception("pipeline '%s' fails without a request, and is not measured", name)
        log.info("pipeline '%s' was measured in %.1f s", name, clock() - started)
    return costs


def _follow(
    course: Course[Any], costs: dict[Stage, PassCost], call: Callable[[Call], Any], clock: Callable[[], float]
) -> None:
    """Goes the way of one request, and measures each stage where it comes to it first."""
    sent: Any = None
    last: PassCost | None = None
    try:
        while True:
            with Peak() as peak:
                wish = course.send(sent)
            if last is not None:
                last.after = max(last.after, peak.risen)
            if isinstance(wish, Call):
                sent = call(wish)
            elif wish is None:
                sent = None
            else:
                if wish.stage not in costs:
                    costs[wish.stage] = measured(wish, clock)
                last = costs[wish.stage]
                while wish.done < wish.steps:
                    wish.stage.advance([wish])
                sent = wish.result
    except StopIteration:
        pass


def measured(flow: Flow, clock: Callable[[], float]) -> PassCost:
    """What passes of copies of a flow cost: the second of each size, as the first one warms up."""
    cost = PassCost(size_of(flow))
    for count in BATCHES:
        rows = count * flow.rows
        try:
            _pass(flow, count)
            start = clock()
            with Peak() as peak:
                _pass(flow, count)
        except RuntimeError:  # no memory for so many
            if not cost.seconds:
                raise
            break
        cost.seconds[rows], cost.memory[rows] = clock() - start, peak.risen
        if cost.seconds[rows] > LONGEST:
            break
    return cost


def _pass(flow: Flow, count: int) -> None:
    flows = [copy.copy(flow) for _ in range(count)]
    flow.stage.advance(flows)


def _called(calls: Executor, workers: int, call: Call) -> Any:
    """Made by as many workers as there are, at once."""
    futures = [calls.submit(call.function, *call.arguments) for _ in range(workers)]
    results = [future.result() for future in futures]
    return results[0]
