"""Between the store and the engines: claimed tasks become orders, and what is reported of them is written down."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette_serve.engine.job import ENDS, Event
from maquette_serve.engine.replicas import LOST, Replicas
from maquette_serve.service.orders import order_of
from maquette_serve.service.store import Store
from maquette_serve.service.task import Task

log = logging.getLogger("maquette.service")
PAUSE = 0.2
"""Seconds between two looks into the store for tasks that other servers took in."""
TOLD_EVERY = 0.5
"""Seconds between two notes of a task's progress: each is written to the disk."""


@dataclass
class Held:
    """A task that an engine has, and when its progress was last written down."""

    task: Task
    ticket: int
    told: float = 0.0


class Dispatcher:
    """One thread that claims tasks, as many as the engines can have under way, and reports to the store.

    Args:
        store: of the tasks.
        replicas: the engines.
        folder: where each task has a folder for its files, and each of its attempts one in that.
        changed: called with the task's id when something is told of it.
        holder: the name of this server: what one of the same name held before is claimed anew at once.
        most: how many tasks the engines have at most.
        sweep: called every minute.
    """

    def __init__(
        self,
        store: Store,
        replicas: Replicas,
        folder: Path,
        changed: Callable[[str], None],
        holder: str = "server",
        *,
        most: int = 64,
        sweep: Callable[[], None] = lambda: None,
    ) -> None:
        self.store, self.replicas, self.folder, self.holder, self.most = store, replicas, folder, holder, most
        self.changed, self.sweep = changed, sweep
        self.held: dict[str, Held] = {}
        self._heard: queue.Queue[tuple[str, Event] | None] = queue.Queue()
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
                self._note(held.task, event)
                self.changed(identity)

    def _note(self, task: Task, event: Event) -> None:
        if event.kind == "succeeded":
            assert event.delivered is not None  # it succeeded
            delivered = event.delivered
            result: dict[str, Any] = {"metadata": plain(delivered.metadata), "faces": delivered.faces}
            result |= {"files": list(delivered.files), "attempt": task.attempt}
            self.store.succeed(task, result)
        elif event.kind == "failed":
            self.store.fail(task, event.error)
        elif event.kind in (LOST, "cancelled"):
            # Cancelled here without the store's word means that the engine was closed.
            self.store.release(task)
        else:
            self.store.progressed(task, int(100 * event.progress))
        if event.kind in (*ENDS, LOST):
            del self.held[task.id]

    def _claim(self) -> None:
        while len(self.held) < self.most and self.replicas.ready and not self._closed:
            task = self.store.claim(self.holder)
            if task is None:
                return
            self.changed(task.id)
            attempt = self.folder / task.id / str(task.attempt)
            try:
                attempt.mkdir(parents=True, exist_ok=True)
                order = order_of(task, attempt)
                ticket = self.replicas.submit(order, lambda event, identity=task.id: self._heard.put((identity, event)))
            except (MaquetteError, OSError) as error:
                self.store.fail(task, str(error))
                self.changed(task.id)
            else:
                self.held[task.id] = Held(task, ticket)


def plain(value: Any) -> Any:
    """Metadata as JSON can hold it: what is no plain value is left out."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(type(value).__name__)
