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
from maquette_serve.service.files import Files, StoreAway
from maquette_serve.service.orders import order_of
from maquette_serve.service.store import Store
from maquette_serve.service.task import Task

log = logging.getLogger("maquette.service")
PAUSE = 0.2
"""Seconds between two looks into the store for tasks that other servers took in."""
TOLD_EVERY = 0.5
"""Seconds between two notes of a task's progress: each is written to the disk."""
SENT_AGAIN = (1.0, 5.0, 20.0, 60.0)
"""Seconds after which the files of an order are sent again where the object store did not take them."""
KEPT = "kept"
"""The event of an order that succeeded and whose files are where all servers find them."""
GONE = "gone"
"""The event of an order whose task this server does not hold any more: cancelled elsewhere, or claimed by another."""


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
    """A task that this server has claimed, the engine's ticket once it has it, and when its progress was noted last."""

    task: Task
    span: Span
    ticket: int | None = None
    told: float = 0.0


class Dispatcher:
    """One thread that claims tasks, as many as the engines can have under way, and reports to the store; another gives
    the signs of life of those that are held, however long the first is at work.

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
        self._heard: queue.Queue[tuple[Task, Event] | None] = queue.Queue()
        self._keepers = ThreadPoolExecutor(4, "keeper")
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self.run, name="dispatcher", daemon=True),
            threading.Thread(target=self.keep_leases, name="leases", daemon=True),
        ]

    def start(self) -> None:
        """Begins, with what this server left undone when it ended."""
        self.store.release_all(self.holder)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends; what the engines have is begun again at once by whoever is there, or comes next."""
        self._closed.set()
        self._heard.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10)
        self._keepers.shutdown(wait=False, cancel_futures=True)
        try:
            self.store.release_all(self.holder)
        except Exception:  # the drivers' own kinds; leases then run out
            log.exception("tasks could not be given back")

    def wake(self) -> None:
        """There may be a new task."""
        self._heard.put(None)

    def cancel(self, identity: str) -> None:
        """A task was cancelled in the store: the engine that has it lets it go."""
        held = self.held.get(identity)
        if held is not None and held.ticket is not None:
            self.replicas.cancel(held.ticket)

    def run(self) -> None:
        """Works until it is closed; an error of the store is logged, and it is tried again."""
        swept = time.monotonic()
        while not self._closed.is_set():
            try:
                self._listen()
                self._claim()
                if time.monotonic() - swept > 60:
                    swept = time.monotonic()
                    self.sweep()
            except Exception:
                log.exception("the dispatcher failed; it goes on")
                self._closed.wait(1)

    def keep_leases(self) -> None:
        """Gives signs of life until it is closed, and says of which tasks others have disposed meanwhile."""
        while not self._closed.wait(self.store.lease / 3000):
            holding = self.held.copy()
            try:
                kept = self.store.keep(self.holder, list(holding))
            except Exception:
                log.exception("leases could not be kept; it is tried again")
                continue
            for identity in holding.keys() - kept:
                self._heard.put((holding[identity].task, Event(-1, GONE)))

    def _listen(self) -> None:
        """Writes down what was reported; waits a moment where nothing was."""
        heard: list[tuple[Task, Event]] = []
        try:
            first = self._heard.get(timeout=PAUSE)
            heard += [first] if first is not None else []
            while True:
                more = self._heard.get_nowait()
                heard += [more] if more is not None else []
        except queue.Empty:
            pass
        # Of several reports of progress the last one counts; what is said of an attempt is said of no other.
        latest = {(task.id, task.attempt): event for task, event in heard}
        for (identity, attempt), event in latest.items():
            held = self.held.get(identity)
            if held is None or held.task.attempt != attempt:
                continue
            if event.kind != "progress" or time.monotonic() - held.told > TOLD_EVERY:
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
        elif event.kind == GONE:
            self.cancel(task.id)
        else:
            held.span.add_event("progress", {"progress": event.progress})
            self.store.progressed(task, int(100 * (len(task.stages) + event.progress) / pieces))
        if event.kind in (*ENDS, KEPT, LOST, GONE):
            self._drop(held, event.error or ("" if event.kind == KEPT else event.kind))

    def _drop(self, held: Held, error: str) -> None:
        tracing.ended(held.span, error)
        del self.held[held.task.id]

    def _keep(self, held: Held, event: Event) -> None:
        """Sends files to where all servers find them; on a thread of its own, since that may take long."""
        assert event.delivered is not None  # it succeeded
        task = held.task
        for wait in (*SENT_AGAIN, None):
            try:
                with tracing.within(held.span, "files"):
                    self.files.keep(f"{attempt_of(task)}/{name}" for name in event.delivered.files)
            except StoreAway as error:
                if wait is None:
                    log.error("the files of task %s are lost, and it is begun again", task.id)
                    self._heard.put((task, replace(event, kind=LOST, error=str(error))))
                elif self._closed.wait(wait):
                    return
            else:
                self._heard.put((task, replace(event, kind=KEPT)))
                return

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
        while len(self.held) < self.most and self.replicas.ready and not self._closed.is_set():
            task = self.store.claim(self.holder)
            if task is None:
                return
            if (older := self.held.get(task.id)) is not None:  # its lease ran out here
                self.cancel(task.id)
                self._drop(older, "the lease ran out")
            self.changed(task.id)
            pipeline = task.works[len(task.stages)]["pipeline"]
            carrier = task.inputs.get("trace", {})
            span = tracing.begun(f"make {pipeline}", carrier, task=task.id, attempt=task.attempt, pipeline=pipeline)
            held = self.held[task.id] = Held(task, span)
            why = "it could not be begun"
            try:
                why = self._begin(held)
            finally:
                if held.ticket is None:
                    self._drop(held, why)
                    self.changed(task.id)

    def _begin(self, held: Held) -> str:
        """Gives a task to an engine; why it could not be, where it has no ticket then."""
        task = held.task
        try:
            attempt = self.files.path(attempt_of(task))
            attempt.mkdir(parents=True, exist_ok=True)
            order = order_of(task, attempt, self.files)
        except (StoreAway, OSError) as error:  # which is no fault of the task's, and may be over when the lease is
            log.error("task %s cannot be begun now: %s", task.id, error)
            self.store.postpone(task)
            return str(error)
        except MaquetteError as error:
            self.store.fail(task, str(error))
            return str(error)
        try:
            held.ticket = self.replicas.submit(order, lambda event: self._heard.put((task, event)))
        except MaquetteError as error:  # the engine died since it was asked whether it is ready
            self.store.release(task)
            return str(error)
        return ""


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
