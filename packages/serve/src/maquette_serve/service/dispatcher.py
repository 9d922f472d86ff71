"""Between the store and the engines: claimed tasks become orders, and what is reported of them is written down."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from opentelemetry.trace import Span

from maquette.errors import MaquetteError
from maquette_serve.engine.job import ENDS, Event, Order
from maquette_serve.engine.replicas import LOST
from maquette_serve.service import tracing
from maquette_serve.service.files import Files
from maquette_serve.service.orders import order_of
from maquette_serve.service.store import Store
from maquette_serve.service.task import Task

log = logging.getLogger("maquette.service")
PAUSE = 0.2
"""Seconds between two looks into the store for tasks that other servers took in."""
TOLD_EVERY = 0.5
"""Seconds between two notes of a task's progress: each is written to the disk."""
KEPT = "kept"
"""The event of an order that succeeded and whose files are where all servers find them."""


class Engines(Protocol):
    """Who does the work, wherever: `Replicas`, or `RayReplicas`."""

    @property
    def ready(self) -> bool:
        """Whether orders are taken."""

    @property
    def waiting(self) -> int:
        """Orders that are not ended."""

    def start(self, timeout: float = 600.0) -> None:
        """Waits until the first is ready."""

    def submit(self, order: Order, report: Callable[[Event], None]) -> int:
        """Takes an order and tells what becomes of it."""

    def cancel(self, ticket: int) -> None:
        """An order is not wanted any more."""

    def close(self) -> None:
        """Ends them."""


@dataclass
class Held:
    """A task of which an engine has a piece of work, and when its progress was last written down."""

    task: Task
    ticket: int
    span: Span
    told: float = 0.0


class Dispatcher:
    """One thread that claims tasks, as many as the engines can have under way, and reports to the store.

    Args:
        store: of the tasks.
        replicas: the engines.
        files: where each task has a folder, and each of its attempts one in that.
        changed: called with the task's id when something is told of it.
        holder: the name of this server: what one of the same name held before is claimed anew at once.
        most: how many tasks the engines have at most.
        sweep: called every minute.
    """

    def __init__(
        self,
        store: Store,
        replicas: Engines,
        files: Files,
        changed: Callable[[str], None],
        holder: str = "server",
        *,
        most: int = 64,
        sweep: Callable[[], None] = lambda: None,
    ) -> None:
        self.store, self.replicas, self.files, self.holder, self.most = store, replicas, files, holder, most
        self.changed, self.sweep = changed, sweep
        self.held: dict[str, Held] = {}
        self._heard: queue.Queue[tuple[str, Event] | None] = queue.Queue()
        self._keepers = ThreadPoolExecutor(4, "keeper")
        self._closed = False
        self._thread = threading.Thread(target=self.run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begins, with what this server left undone when it ended."""
        self.store.release_all(self.holder)
        self._thread.start()

    def close(self) -> None:
        """Ends; what the engines have is begun again by whoever comes next."""
        self._closed = True
        self._heard.put(None)
        if self._thread.is_alive():
            self._thread.join(10)
        self._keepers.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """There may be a new task."""
        self._heard.put(None)

    def cancel(self, identity: str) -> None:
        """A task was cancelled in the store: the engine that has it lets it go."""
        held = self.held.get(identity)
        if held is not None:
            self.replicas.cancel(held.ticket)

    def run(self) -> None:
        """Works until it is closed; an error of the store is logged, and it is tried again."""
        kept = swept = time.monotonic()
        while not self._closed:
            try:
                self._listen()
                self._claim()
                if time.monotonic() - kept > self.store.lease / 3000:
                    kept = time.monotonic()
                    self.store.keep(self.holder, list(self.held))
                if time.monotonic() - swept > 60:
                    swept = time.monotonic()
                    self.sweep()
            except Exception:
                log.exception("the dispatcher failed; it goes on")
                time.sleep(1)

    def _listen(self) -> None:
        """Writes down what was reported; waits a moment where nothing was."""
        heard: list[tuple[str, Event]] = []
        try:
            first = self._heard.get(timeout=PAUSE)
            heard += [first] if first is not None else []
            while True:
                more = self._heard.get_nowait()
                heard += [more] if more is not None else []
        except queue.Empty:
            pass
        latest = {identity: event for identity, event in heard}  # of several reports of progress the last one counts
        for identity, event in latest.items():
            held = self.held.get(identity)
            if held is not None and (event.kind != "progress" or time.monotonic() - held.told > TOLD_EVERY):
                held.told = time.monotonic()
                self._note(held, event)
                self.changed(identity)

    def _note(self, held: Held, event: Event) -> None:
        task, pieces = held.task, len(held.task.works)
        if event.kind == "succeeded":
            self._keepers.submit(self._keep, held, event)
            return
        if event.kind == KEPT:
            self._done(held, event)
        elif event.kind == "failed":
            where = f"{task.works[len(task.stages)]['pipeline']}: " if pieces > 1 else ""
            self.store.fail(task, where + event.error)
        elif event.kind in (LOST, "cancelled"):
            # Cancelled here without the store's word means that the engine was closed.
            self.store.release(task)
        else:
            held.span.add_event("progress", {"progress": event.progress})
            self.store.progressed(task, int(100 * (len(task.stages) + event.progress) / pieces))
        if event.kind in (*ENDS, KEPT, LOST):
            tracing.ended(held.span, event.error or ("" if event.kind == KEPT else event.kind))
            del self.held[task.id]

    def _keep(self, held: Held, event: Event) -> None:
        """Sends files to where all servers find them; on a thread of its own, since that may take long."""
        assert event.delivered is not None  # it succeeded
        task = held.task
        try:
            with tracing.within(held.span, "files"):
                self.files.keep(f"{attempt_of(task)}/{name}" for name in event.delivered.files)
            self._heard.put((task.id, replace(event, kind=KEPT)))
        except MaquetteError as error:
            log.error("the files of task %s are lost, and it is begun again: %s", task.id, error)
            self._heard.put((task.id, replace(event, kind=LOST, error=str(error))))

    def _done(self, held: Held, event: Event) -> None:
        assert event.delivered is not None  # it succeeded
        task, delivered = held.task, event.delivered
        stage: dict[str, Any] = {"pipeline": task.works[len(task.stages)]["pipeline"], "faces": delivered.faces}
        stage |= {"metadata": plain(delivered.metadata)}
        stage |= {"files": {name: f"{attempt_of(task)}/{name}" for name in delivered.files}}
        result = {"stages": [*task.stages, stage]}
        if len(result["stages"]) < len(task.works):
            self.store.advance(task, int(100 * len(result["stages"]) / len(task.works)), result)
        else:
            self.store.succeed(task, result)

    def _claim(self) -> None:
        while len(self.held) < self.most and self.replicas.ready and not self._closed:
            task = self.store.claim(self.holder)
            if task is None:
                return
            self.changed(task.id)
            pipeline = task.works[len(task.stages)]["pipeline"]
            carrier = task.inputs.get("trace", {})
            span = tracing.begun(f"make {pipeline}", carrier, task=task.id, attempt=task.attempt, pipeline=pipeline)
            try:
                attempt = self.files.path(attempt_of(task))
                attempt.mkdir(parents=True, exist_ok=True)
                order = order_of(task, attempt, self.files)
                ticket = self.replicas.submit(order, lambda event, identity=task.id: self._heard.put((identity, event)))
            except (MaquetteError, OSError) as error:
                tracing.ended(span, str(error))
                self.store.fail(task, str(error))
                self.changed(task.id)
            else:
                self.held[task.id] = Held(task, ticket, span)


def attempt_of(task: Task) -> str:
    """The key below which an attempt has its files."""
    return f"files/{task.id}/{task.attempt}"


def plain(value: Any) -> Any:
    """Metadata as JSON can hold it: what is no plain value is left out."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(type(value).__name__)
