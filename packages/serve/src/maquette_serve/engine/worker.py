"""The engine's own process: it has the device, and talks with the process that answers callers through a pipe."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from maquette.assets import Pipeline, open_pipeline
from maquette.errors import MaquetteError
from maquette_serve.engine.calibration import calibrate
from maquette_serve.engine.call_pool import CallPool, step_back
from maquette_serve.engine.engine import Engine
from maquette_serve.engine.job import Event
from maquette_serve.engine.memory import GIB, SHARE, free_memory
from maquette_serve.engine.scheduler import Scheduler

TOLD_EVERY = 0.2
"""Seconds between two reports of an order's progress."""


@dataclass(frozen=True)
class Opened:
    """A pipeline of an engine: that of a run, or one that needs none.

    Args:
        block: changes to the run's pipeline block; for one without a run, its whole block.
        run: the folder of a run, or None.
        adapters: "FILE" or "FILE:scale" each.
    """

    block: Mapping[str, Any] = field(default_factory=dict)
    run: Path | None = None
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineSetup:
    """What an engine's process opens and how it works.

    Args:
        pipelines: by the names that orders give.
        plugins: loose plugin files to load.
        rows: the most rows of a forward pass.
        ageing: see `Scheduler`.
        active: how many orders are under way at most.
        threads: of the process that has the device; 0 is one for each core but one.
        workers: processes for work that needs no device; 0 is one for each core, but two at least.
        measure: whether passes are timed before the first order: they then are as large as is worth their time, and
            requests that do not fit into the memory are refused.
        memory: GiB that passes may take; 0 is most of what is free, shared out evenly.
        sharers: engines that share what is free, and the GPUs.
        number: which of them this one is, from 0.
        device: on which models compute, e.g. cpu or cuda:1; "" is as `inference_device` says, of several GPUs one each.
        weights: as what runs' weights are stored: bf16, int8 or fp8; "" is as they were trained.
        compile: whether runs' models are compiled.
        adapters: a folder of adapters that requests may name, or None.
    """

    pipelines: Mapping[str, Opened]
    plugins: tuple[str, ...] = ()
    rows: int = 16
    ageing: float = 20.0
    active: int = 64
    threads: int = 1
    workers: int = 1
    measure: bool = False
    memory: float = 0.0
    sharers: int = 1
    number: int = 0
    device: str = ""
    weights: str = ""
    compile: bool = False
    adapters: Path | None = None


def take_device(setup: EngineSetup) -> int:
    """Settles on which device this process opens runs, and gives how many engines share that.

    Raises:
        MaquetteError: there is no such device.
    """
    import torch

    from maquette.inference_device import VARIABLE, inference_device

    sharers = setup.sharers
    if setup.device:
        os.environ[VARIABLE] = setup.device
    elif not os.environ.get(VARIABLE) and (gpus := torch.cuda.device_count()) > 1:
        os.environ[VARIABLE] = f"cuda:{setup.number % gpus}"
        sharers = len(range(setup.number % gpus, setup.sharers, gpus))
    device = inference_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose memory is asked for
    return sharers


def open_all(setup: EngineSetup) -> dict[str, Pipeline]:
    """The pipelines of a setup.

    Raises:
        MaquetteError: one of them cannot be opened.
    """
    from maquette import plugins

    plugins.load_files(list(setup.plugins))
    pipelines: dict[str, Pipeline] = {}
    for name, opened in setup.pipelines.items():
        if opened.run is None:
            pipelines[name] = plugins.build("pipelines", opened.block)
        else:
            pipelines[name] = open_pipeline(opened.run, opened.block, opened.adapters)
            prepare(name, pipelines[name], setup)
    return pipelines


def prepare(name: str, pipeline: Any, setup: EngineSetup) -> None:
    """Does to a run's pipeline what a setup asks for.

    Raises:
        MaquetteError: it cannot be done to this one.
    """
    wishes = {
        "use_weights": (bool(setup.weights), "--weights", (setup.weights,)),
        "compile_stages": (setup.compile, "--compile", ()),
        "register_adapters": (setup.adapters is not None, "--adapters", (setup.adapters,)),
    }
    for method, (asked, option, arguments) in wishes.items():
        if asked and not hasattr(pipeline, method):
            raise MaquetteError(f"the pipeline of '{name}' knows no {option}")
        if asked:
            getattr(pipeline, method)(*arguments)


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
        pipelines = open_all(setup)
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
