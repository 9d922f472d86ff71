"""The loop of the engine: what waits goes on, a pass at a time, and nobody's failure is another's."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from itertools import count
from typing import Any

from maquette.assets import Pipeline
from maquette.errors import MaquetteError, unknown_name
from maquette.stepping import Call, Course, Flow
from maquette_serve.engine.calibration import Costs
from maquette_serve.engine.call_queue import CallQueue
from maquette_serve.engine.delivery import ordered
from maquette_serve.engine.job import Event, Job, Order, Report, reason_of
from maquette_serve.engine.memory import told
from maquette_serve.engine.scheduler import Scheduler

log = logging.getLogger("maquette.engine")


class Engine:
    """Advances orders through pipelines. All of it is one thread's, but for `submit`, `cancel` and `close`.

    Args:
        pipelines: by the names that orders give.
        calls: where work that needs no device is done: a pool of processes, as a rule.
        workers: how many calls are made at once.
        scheduler: who goes next.
        active: how many orders are under way at most; others wait, and take no memory.
        costs: what the passes of stages cost, where it was measured.
        memory: bytes that passes may take.
        clock: seconds.
    """

    def __init__(
        self,
        pipelines: Mapping[str, Pipeline],
        calls: Executor,
        scheduler: Scheduler | None = None,
        *,
        active: int = 64,
        workers: int = 1,
        costs: Costs | None = None,
        memory: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pipelines, self.active, self.clock = pipelines, active, clock
        self.calls = CallQueue(calls, workers)
        self.costs, self.memory = costs or {}, memory
        self.scheduler = scheduler or Scheduler()
        self.jobs: dict[int, Job] = {}
        self._numbers = count()
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, order: Order, report: Report) -> int:
        """Takes an order; `report` is told on the engine's thread what becomes of it.

        Raises:
            MaquetteError: no such pipeline, or the engine is closed.
        """
        if order.pipeline not in self.pipelines:
            raise unknown_name("pipeline", order.pipeline, self.pipelines)
        with self._changed:
            if self._closed:
                raise MaquetteError("the engine is closed")
            number = next(self._numbers)
            flows = getattr(self.pipelines[order.pipeline], "flows", 1)
            if not any(job.client == order.client for job in self.jobs.values()):
                self.scheduler.arrive(order.client, {job.client for job in self.jobs.values()})
            self.jobs[number] = Job(number, order, self.clock(), report, flows)
            self._changed.notify_all()
        return number

    def cancel(self, number: int) -> None:
        """An order is not wanted any more: its place is free after the pass that is being computed."""
        with self._changed:
            if number in self.jobs:
                self.jobs[number].cancelled = True
            self._changed.notify_all()

    def close(self) -> None:
        """Ends `run`; what is under way is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Works until it is closed."""
        while not self._closed:
            if not self.tick():
                with self._changed:
                    self._changed.wait_for(self._something_to_do, timeout=0.5)
        self.calls.close()
        for job in list(self.jobs.values()):
            self._end(job, "cancelled", "the engine was closed")

    def tick(self) -> bool:
        """Lets go of what nobody wants, takes up what fits, computes one pass; False where there was nothing to do."""
        now = self.clock()
        self._drop(now)
        self._admit(now)
        returned = [job for job in self.jobs.values() if job.called is not None and job.called.done()]
        for job in returned:
            self._returned(job)
        ready = [job for job in self.jobs.values() if job.ready]
        chosen: list[Any] = self.scheduler.pick(ready, now)
        if not chosen:
            return bool(returned)
        if chosen[0].flow is None:
            self._timed(chosen, lambda: self._send(chosen[0], None))
        else:
            self._timed(chosen, lambda: self._advance(chosen))
        return True

    def _something_to_do(self) -> bool:
        if self._closed or any(job.ready or job.cancelled for job in self.jobs.values()):
            return True
        called = [job.called for job in self.jobs.values() if job.called is not None]
        waiting = sum(job.course is None for job in self.jobs.values())
        return any(future.done() for future in called) or (waiting > 0 and len(self.jobs) - waiting < self.active)

    def _drop(self, now: float) -> None:
        for job in list(self.jobs.values()):
            if job.cancelled:
                self._end(job, "cancelled")
            elif job.expired(now):
                self._end(job, "failed", f"not done within its deadline of {job.order.deadline:g} s")

    def _admit(self, now: float) -> None:
        under_way = sum(job.course is not None for job in self.jobs.values())
        waiting = [job for job in self.jobs.values() if job.course is None]
        while waiting and under_way < self.active:
            job = min(waiting, key=lambda job: self.scheduler.urgency(job, now))
            waiting.remove(job)
            job.course = ordered(self.pipelines[job.order.pipeline], job.order)
            job.report(Event(job.number, "started"))
            under_way += 1

    def _timed(self, jobs: list[Job], work: Callable[[], None]) -> None:
        rows = [(job, job.rows) for job in jobs]
        start = self.clock()
        work()
        self.scheduler.charge(rows, self.clock() - start)

    def _advance(self, jobs: list[Job]) -> None:
        """A step of each job's flow, together; where that fails, one by one, so that only the guilty one fails."""
        flows = [job.flow for job in jobs]
        try:
            flows[0].stage.advance(flows)  # type: ignore[union-attr]
        except Exception as error:
            if len(jobs) > 1:
                log.exception("a pass of %d jobs failed; each is tried alone", len(jobs))
                for job in jobs:
                    self._advance([job])
            else:
                self._failed(jobs[0], error)
            return
        for job, flow in zip(jobs, flows, strict=True):
            assert flow is not None  # chosen for it
            job.report(Event(job.number, "progress", job.progress))
            if flow.done == flow.steps:
                job.flows_done += 1
                self._send(job, flow.result)

    def _returned(self, job: Job) -> None:
        future, job.called = job.called, None
        assert future is not None  # it was waited for
        error = future.exception()
        if error is None:
            self._send(job, future.result())
        elif isinstance(error, MaquetteError):
            self._next(job, lambda course: course.throw(error))
        else:
            self._failed(job, error)

    def _send(self, job: Job, value: Any) -> None:
        self._next(job, lambda course: course.send(value))

    def _next(self, job: Job, resume: Callable[[Course[Any]], Any]) -> None:
        """Lets a job go on to its next wish, or to its end."""
        assert job.course is not None  # it is under way
        try:
            job.wish = resume(job.course)
            if job.flow is not None:
                self._measure(job, job.flow)
        except StopIteration as end:
            self._end(job, "succeeded", delivered=end.value)
        except Exception as error:
            self._failed(job, error)
        else:
            if isinstance(job.wish, Call):
                urgency = partial(self._urgency, job)
                job.called = self.calls.submit(urgency, job.wish.function, *job.wish.arguments)
                job.called.add_done_callback(self._wake)

    def _measure(self, job: Job, flow: Flow) -> None:
        """Says how large passes of a flow may be.

        Raises:
            MaquetteError: not even one of its own fits into the memory.
        """
        cost = self.costs.get(flow.stage)
        if cost is None:
            job.most_rows = self.scheduler.rows
            return
        if (need := cost.need_alone(flow)) > self.memory:
            raise MaquetteError(
                f"this needs about {told(need)} of memory, and the engine may use {told(self.memory)}: ask for less "
                "detail (fewer tokens, a lower resolution), or start it with more --memory"
            )
        job.most_rows = cost.most(flow, self.memory)

    def _urgency(self, job: Job) -> tuple[float, ...]:
        return self.scheduler.urgency(job, self.clock())

    def _failed(self, job: Job, error: BaseException) -> None:
        if not isinstance(error, MaquetteError):
            log.error("order %d failed", job.number, exc_info=error)
        self._end(job, "failed", reason_of(error))

    def _end(self, job: Job, kind: str, error: str = "", delivered: Any = None) -> None:
        with self._changed:
            del self.jobs[job.number]
            if not any(other.client == job.client for other in self.jobs.values()):
                self.scheduler.leave(job.client)
        if job.called is not None:
            job.called.cancel()
        job.end(kind, error, delivered)

    def _wake(self, _: Any) -> None:
        with self._changed:
            self._changed.notify_all()
