"""A pool of processes for work that needs no device, which outlives the death of its workers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from maquette import plugins

log = logging.getLogger("maquette.engine")
Call = Callable[[], Any]
BEHIND = 4
"""By how much less urgent (`man nice`) an engine is than who answers callers, and its workers than the engine."""


def step_back() -> None:
    """Lets the process that started this one go first where processors are few."""
    if hasattr(os, "nice"):
        os.nice(BEHIND)


def prepare(plugin_files: tuple[str, ...]) -> None:
    """What a worker does before its first call: one thread, and the plugins that orders may name."""
    step_back()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    plugins.load_files(list(plugin_files))


class CallPool(Executor):
    """Calls are made by `workers` processes.

    A worker that dies takes the whole pool of the standard library with it: here a new one is made, and each call that
    was under way is made once more, by a process of its own, so that the guilty one alone has an error.
    """

    def __init__(self, workers: int = 1, plugin_files: tuple[str, ...] = ()) -> None:
        self._workers, self._plugin_files = workers, plugin_files
        self._lock = threading.Lock()
        self._pool = self._new(workers)
        self._closed = False

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """The call's future; its error is the call's own, or says that the process died."""
        future: Future[Any] = Future()
        work = partial(function, *arguments, **keywords)
        with self._lock:
            try:
                inner = self._pool.submit(work)
            except BrokenProcessPool:
                self._pool = self._new(self._workers)
                inner = self._pool.submit(work)
            pool = self._pool
        inner.add_done_callback(lambda inner: self._done(future, inner, work, pool))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No calls are taken any more."""
        self._closed = True
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def _new(self, workers: int) -> ProcessPoolExecutor:
        # Forked workers would have the engine's threads half-way through something.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, context, prepare, (self._plugin_files,))

    def _done(self, future: Future[Any], inner: Future[Any], work: Call, pool: ProcessPoolExecutor) -> None:
        if inner.cancelled() or not isinstance(inner.exception(), BrokenProcessPool) or self._closed:
            pass_on(inner, future)
            return
        with self._lock:
            if self._pool is pool:
                log.warning("a worker died; a new pool is made, and its calls are made once more, each by itself")
                self._pool = self._new(self._workers)
        # Not on this thread, which belongs to the broken pool.
        threading.Thread(target=self._alone, args=(future, work), daemon=True).start()

    def _alone(self, future: Future[Any], work: Call) -> None:
        with self._new(1) as pool:
            inner = pool.submit(work)
            wait([inner])
        pass_on(inner, future)


def pass_on(inner: Future[Any], future: Future[Any]) -> None:
    """What came of one future becomes that of another."""
    if not future.set_running_or_notify_cancel():
        return
    if inner.cancelled():
        future.set_exception(RuntimeError("the pool was closed"))
    elif (error := inner.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(inner.result())
