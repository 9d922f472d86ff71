"""Where the time of a process's steps goes: waiting for data, computing, waiting for other processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Clock = Callable[[], float]

REMEMBERED = 4096
"""Steps whose times are kept for who asks."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step.

    Attributes:
        ended: when, on the clock.
        total: without pauses.
        data: of these, waiting for batches.
        communication: of these, waiting in collectives, for others or for the network.
    """

    ended: float
    total: float
    data: float
    communication: float

    @property
    def compute(self) -> float:
        """The rest, and all else that this process does by itself."""
        return max(self.total - self.data - self.communication, 0.0)


class StepClock:
    """Follows a training loop. One thread writes; others may read the totals and the last steps.

    Attributes:
        seconds: of all steps, pauses left out.
        waited: of these, for batches.
        communicated: of these, in collectives.
        paused: seconds that were no training: validating, saving.
        steps: optimizer steps ended.

    Args:
        clock: seconds, monotonic.
        communication: seconds in collectives so far; see :class:`maquette.monitoring.collective_waits.CollectiveWaits`.
    """

    def __init__(self, clock: Clock = time.perf_counter, communication: Callable[[], float] = lambda: 0.0) -> None:
        self.clock, self.communication = clock, communication
        self.seconds = self.waited = self.communicated = self.paused = 0.0
        self.steps = 0
        self.last: deque[StepTime] = deque(maxlen=REMEMBERED)
        self._paused_at: float | None = None
        self.start()

    def start(self) -> None:
        """A step begins now; what was before belongs to none."""
        self._began = self.clock()
        self._away = self._data = 0.0
        self._communicated_before = self.communication()
        self._communication_away = 0.0

    def fetching(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time that each takes to come is waiting for data."""
        iterator = iter(batches)
        while True:
            began, away = self.clock(), self._away
            try:
                batch = next(iterator)
            except StopIteration:
                return
            waited = self.clock() - began - (self._away - away)
            self._data += waited
            self.waited += waited
            yield batch

    def stepped(self) -> None:
        """An optimizer step is done."""
        now = self.clock()
        total = now - self._began - self._away
        communication = self.communication() - self._communicated_before - self._communication_away
        self.last.append(StepTime(now, total, self._data, communication))
        self.seconds += total
        self.communicated += communication
        self.steps += 1
        self.start()

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """What is done within is no training."""
        self.pause()
        try:
            yield
        finally:
            self.go_on()

    def pause(self) -> None:
        """Stop; nothing where it is stopped."""
        if self._paused_at is None:
            self._paused_at, self._communication_at = self.clock(), self.communication()

    def go_on(self) -> None:
        """Run again; nothing where it runs."""
        if self._paused_at is not None:
            away = self.clock() - self._paused_at
            self._away += away
            self.paused += away
            self._communication_away += self.communication() - self._communication_at
            self._paused_at = None

    def now(self) -> float:
        """Seconds of training so far, those of the step under way included."""
        end = self.clock() if self._paused_at is None else self._paused_at
        return self.seconds + end - self._began - self._away

    def since(self, moment: float) -> list[StepTime]:
        """The remembered steps that ended after ``moment``, oldest first; any thread may ask."""
        found: list[StepTime] = []
        for step in reversed(self.last.copy()):
            if step.ended <= moment:
                break
            found.append(step)
        return found[::-1]
