"""The engine's own process: it has the device, and talks with the process that answers callers through a pipe."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from maquette.errors import MaquetteError
from maquette_serve.engine import split_engine
from maquette_serve.engine.calibration import calibrate
from maquette_serve.engine.call_pool import CallPool, step_back
from maquette_serve.engine.engine import Engine
from maquette_serve.engine.engine_setup import EngineSetup, open_all, take_device
from maquette_serve.engine.job import Event
from maquette_serve.engine.memory import GIB, SHARE, free_memory
from maquette_serve.engine.scheduler import Scheduler

TOLD_EVERY = 0.2
"""Seconds between two reports of an order's progress."""


def work(connection: Connection, setup: EngineSetup) -> None:
    """What the process does until the pipe ends: "ready" or "broken", then events of orders that come through it."""
    step_back()
    os.environ["OMP_NUM_THREADS"] = str(setup.threads or max((os.cpu_count() or 2) - 1, 1))
    sending = threading.Lock()

    def send(*message: Any) -> None:
        with sending:
            try:
                connection.send(message)
            except (OSError, ValueError):
                engine_closed.set()

    engine_closed = threading.Event()
    try:
        sharers = take_device(setup)
        pipelines = open_all(setup, split_engine.led(setup))
    except MaquetteError as error:
        send("broken", str(error))
        return
    workers = setup.workers or max(os.cpu_count() or 1, 2)
    pool = CallPool(workers, setup.plugins)
    memory = setup.memory * GIB or SHARE * free_memory() / sharers  # before passes are timed, which keep some
    costs = calibrate(pipelines, pool, workers) if setup.measure else {}
    scheduler = Scheduler(setup.rows, setup.ageing)
    engine = Engine(pipelines, pool, scheduler, active=setup.active, workers=workers, costs=costs, memory=memory)
    listener = threading.Thread(target=_listen, args=(connection, engine, send), daemon=True)
    listener.start()
    send("ready", tuple(pipelines))
    engine.run()
    pool.shutdown(wait=False, cancel_futures=True)
    for child in multiprocessing.active_children():
        child.kill()  # nobody wants what it is at


def _listen(connection: Connection, engine: Engine, send: Any) -> None:
    """Takes orders and cancels off the pipe; when it ends, or says so, the engine does."""
    numbers: dict[int, int] = {}
    while True:
        try:
            kind, ticket, order = connection.recv()
        except (EOFError, OSError):
            kind = "close"
        if kind == "close":
            engine.close()
            return
        if kind == "cancel":
            if ticket in numbers:
                engine.cancel(numbers[ticket])
            continue
        try:
            numbers[ticket] = engine.submit(order, _reporter(ticket, send))
        except MaquetteError as error:
            send("event", ticket, Event(-1, "failed", error=str(error)))


def _reporter(ticket: int, send: Any) -> Callable[[Event], None]:
    """Sends what happens to an order, of its progress no more than anybody looks at."""
    told = 0.0

    def report(event: Event) -> None:
        nonlocal told
        if event.kind != "progress" or time.monotonic() - told > TOLD_EVERY:
            told = time.monotonic()
            send("event", ticket, event)

    return report
