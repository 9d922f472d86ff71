"""Engines in processes of their own: started, given orders, and started again when they die."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from maquette.errors import MaquetteError
from maquette_serve.engine.engine_setup import EngineSetup
from maquette_serve.engine.job import ENDS, Event, Order
from maquette_serve.engine.worker import work

log = logging.getLogger("maquette.engine")
LOST = "lost"
"""The event of an order whose engine died: nobody will hear of it again, unless it is given to an engine once more."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
Report = Callable[[Event], None]


@dataclass(eq=False)
class Replica:
    """One engine's process."""

    setup: EngineSetup
    reports: dict[int, Report] = field(default_factory=dict)
    process: SpawnProcess | None = None
    connection: Connection | None = None
    ready: threading.Event = field(default_factory=threading.Event)
    broken: str = ""
    starts: int = 0


class Replicas:
    """Gives orders to the engine that has the least to do. Safe to call from any thread.

    Args:
        setup: of each engine.
        count: how many.
    """

    def __init__(self, setup: EngineSetup, count: int = 1) -> None:
        self._replicas = [Replica(replace(setup, sharers=count, number=number)) for number in range(count)]
        self._tickets = itertools.count()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(each,), daemon=True) for each in self._replicas]

    def start(self, timeout: float = 600.0) -> None:
        """Starts the engines and waits for them.

        Raises:
            MaquetteError: one cannot open its pipelines, or is not ready in time.
        """
        for thread in self._threads:
            thread.start()
        for replica in self._replicas:
            if not replica.ready.wait(timeout):
                raise MaquetteError(f"an engine was not ready within {timeout:g} s")
            if replica.broken:
                self.close()
                raise MaquetteError(replica.broken)

    @property
    def ready(self) -> bool:
        """Whether any engine takes orders."""
        return any(replica.ready.is_set() and not replica.broken for replica in self._replicas)

    @property
    def broken(self) -> str:
        """Why an engine cannot be started any more; "" while all can."""
        return next((replica.broken for replica in self._replicas if replica.broken), "")

    @property
    def waiting(self) -> int:
        """Orders that are not ended."""
        return sum(len(replica.reports) for replica in self._replicas)

    @property
    def processes(self) -> list[int]:
        """The engines' process numbers."""
        return [each.process.pid for each in self._replicas if each.process is not None and each.process.pid]

    def submit(self, order: Order, report: Report) -> int:
        """Takes an order; `report` is told on a thread of this object what becomes of it.

        Raises:
            MaquetteError: no engine is ready.
        """
        with self._lock:
            usable = [replica for replica in self._replicas if replica.ready.is_set() and not replica.broken]
            if not usable:
                raise MaquetteError("no engine is ready; try again in a moment")
            replica = min(usable, key=lambda each: len(each.reports))
            ticket = next(self._tickets)
            replica.reports[ticket] = report
            self._send(replica, "submit", ticket, order)
        return ticket

    def cancel(self, ticket: int) -> None:
        """An order is not wanted any more."""
        with self._lock:
            for replica in self._replicas:
                if ticket in replica.reports:
                    self._send(replica, "cancel", ticket, None)

    def close(self) -> None:
        """Ends the engines; orders under way are lost."""
        self._closing.set()
        with self._lock:  # others may be sending
            for replica in self._replicas:
                self._send(replica, "close", -1, None)
        for replica in self._replicas:
            if replica.process is not None:
                replica.process.join(5)
                if replica.process.is_alive():
                    replica.process.kill()
            if replica.connection is not None:
                replica.connection.close()

    def _send(self, replica: Replica, kind: str, ticket: int, order: Order | None) -> None:
        try:
            if replica.connection is not None:
                replica.connection.send((kind, ticket, order))
        except (OSError, ValueError):
            log.info("an engine died before it took %s %d", kind, ticket)  # its keeper reports the order as lost

    def _keep(self, replica: Replica) -> None:
        """Starts an engine, passes on what it says, and starts it again when it dies, later each time."""
        wait = FIRST_WAIT
        while not self._closing.is_set():
            started = time.monotonic()
            self._start(replica)
            self._listen(replica)
            replica.ready.clear()
            with self._lock:
                lost, replica.reports = replica.reports, {}
            for ticket, report in lost.items():
                report(Event(ticket, LOST, error="the engine died"))
            if replica.broken:
                replica.ready.set()
                return
            if not self._closing.is_set():
                log.error("an engine died after %.1f s; it is started again", time.monotonic() - started)
                wait = FIRST_WAIT if time.monotonic() - started > LONGEST_WAIT else min(2 * wait, LONGEST_WAIT)
                self._closing.wait(wait)

    def _start(self, replica: Replica) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        replica.process = context.Process(target=work, args=(theirs, replica.setup), name="maquette-engine")
        replica.process.start()
        theirs.close()
        replica.connection = ours
        replica.starts += 1

    def _listen(self, replica: Replica) -> None:
        assert replica.connection is not None  # just started
        while True:
            try:
                kind, *rest = replica.connection.recv()
            except (EOFError, OSError, TypeError):  # the last where it was closed here meanwhile
                return
            if kind == "ready":
                replica.ready.set()
            elif kind == "broken":
                replica.broken = rest[0]
            else:
                self._tell(replica, *rest)

    def _tell(self, replica: Replica, ticket: int, event: Event) -> None:
        with self._lock:
            report = replica.reports.get(ticket)
            if event.kind in ENDS:
                replica.reports.pop(ticket, None)
        if report is not None:
            report(event)
