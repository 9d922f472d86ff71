"""Where calls wait for a free worker: the most urgent goes first, so that a short job's files pass long ones'."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from maquette_serve.engine.call_pool import pass_on


@dataclass(frozen=True, eq=False)
class Waiting:
    """A call that no worker has yet; the least urgency is asked for when a worker is free, and goes first."""

    urgency: Callable[[], Any]
    future: Future[Any]
    work: Callable[[], Any]


class CallQueue:
    """Gives a pool as many calls as it has workers, and keeps the others.

    Args:
        pool: makes the calls.
        workers: how many at once.
    """

    def __init__(self, pool: Executor, workers: int) -> None:
        self._pool, self._workers = pool, workers
        self._waiting: list[Waiting] = []
        self._busy = 0
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, urgency: Callable[[], Any], function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """The call's future; one that is cancelled before a worker has it is never made."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.append(Waiting(urgency, future, partial(function, *arguments)))
        self._fill()
        return future

    def close(self) -> None:
        """What waits is not called any more."""
        with self._lock:
            self._closed = True
            self._waiting.clear()

    def _fill(self) -> None:
        while (chosen := self._taken()) is not None:
            self._pool.submit(chosen.work).add_done_callback(partial(self._done, chosen.future))

    def _taken(self) -> Waiting | None:
        with self._lock:
            self._waiting = [waiting for waiting in self._waiting if not waiting.future.cancelled()]
            if self._closed or not self._waiting or self._busy >= self._workers:
                return None
            chosen = min(self._waiting, key=lambda waiting: waiting.urgency())
            self._waiting.remove(chosen)
            self._busy += 1
            return chosen

    def _done(self, future: Future[Any], inner: Future[Any]) -> None:
        with self._lock:
            self._busy -= 1
        pass_on(inner, future)
        self._fill()
