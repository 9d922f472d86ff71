"""Engines as replicas of Ray Serve: on one machine or on many, as many as there is work for.

Files travel with the orders and come back with their ends, so that the machines need no folder in common.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette_serve.engine.engine_setup import EngineSetup
from maquette_serve.engine.job import ENDS, Event, Order
from maquette_serve.engine.replicas import LOST, Replicas

log = logging.getLogger("maquette.service")


@dataclass(frozen=True)
class Cluster:
    """Where engines run, and how many.

    Args:
        address: of a cluster of Ray, "" for one of this machine alone, which is started.
        least: replicas that are always there.
        most: replicas at most.
        busy: orders that a replica shall have; more of them start another one.
        cpus: of each replica.
        gpus: of each replica.

    Raises:
        MaquetteError: numbers that no cluster can have.
    """

    address: str = ""
    least: int = 1
    most: int = 1
    busy: float = 4.0
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most or self.most < 1:
            raise MaquetteError(f"--ray: least={self.least},most={self.most}: 0 <= least <= most, and most at least 1")
        if self.busy <= 0 or self.cpus < 0 or self.gpus < 0:
            raise MaquetteError("--ray: busy is above 0, cpus and gpus are not below")


@dataclass(frozen=True)
class Parcel:
    """An order with the files that it needs, by their names: first its mesh, if it has one, then its pictures."""

    order: Order
    files: tuple[tuple[str, bytes], ...]

    def unpacked(self, folder: Path) -> Order:
        """The order, as it is on another machine."""
        paths = []
        for number, (name, content) in enumerate(self.files):
            paths.append(folder / f"given{number}{Path(name).suffix}")
            paths[-1].write_bytes(content)
        mesh = paths.pop(0) if self.order.mesh is not None else None
        return replace(self.order, mesh=mesh, images=tuple(paths), folder=folder)


def packed(order: Order) -> Parcel:
    """An order, to be sent to another machine."""
    paths = (*((order.mesh,) if order.mesh is not None else ()), *order.images)
    return Parcel(order, tuple((path.name, path.read_bytes()) for path in paths))


class EngineReplica:
    """One engine, in a process of Ray's."""

    def __init__(self, setup: EngineSetup) -> None:
        self.engines = Replicas(setup)
        self.engines.start()

    async def make(self, parcel: Parcel) -> AsyncIterator[tuple[Event, dict[str, bytes]]]:
        """What becomes of an order; with its success come its files. Whoever stops listening cancels it."""
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def report(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        with tempfile.TemporaryDirectory(prefix="maquette-") as name:
            folder = Path(name)
            ticket = self.engines.submit(await asyncio.to_thread(parcel.unpacked, folder), report)
            try:
                while True:
                    event = await events.get()
                    made = () if event.delivered is None else event.delivered.files
                    yield event, {file: (folder / file).read_bytes() for file in made}
                    if event.kind in (*ENDS, LOST):
                        return
            finally:
                self.engines.cancel(ticket)

    def check_health(self) -> None:
        """For Ray, which starts another replica where this one fails; an engine that died is started again here.

        Raises:
            MaquetteError: the engine cannot open its pipelines any more.
        """
        if self.engines.broken:
            raise MaquetteError(self.engines.broken)


class RayReplicas:
    """Gives orders to engines of a cluster. Safe to call from any thread.

    Servers that want the same engines of one cluster share them: the first starts them, and they stay when it ends.

    Args:
        setup: of each engine; its runs must lie at the same paths on every machine.
        cluster: where they run.
    """

    def __init__(self, setup: EngineSetup, cluster: Cluster) -> None:
        self.setup, self.cluster = setup, cluster
        self._tickets = itertools.count()
        self._answers: dict[int, Any] = {}
        self._handle: Any = None
        # Linux kills what Ray starts on this machine with the thread that started it: this one stays.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="maquette-ray")

    def start(self, timeout: float = 600.0) -> None:
        """Starts the replicas, where no other server has done so, and waits for the first.

        Raises:
            MaquetteError: Ray is not installed, or no replica can be started.
        """
        try:
            import ray
            from ray import serve
        except ImportError as error:
            raise MaquetteError(f"--ray needs: pip install 'maquette-serve[ray]' ({error})") from error
        address = self.cluster.address
        try:
            settings = {} if address else {"include_dashboard": False}
            begun = partial(ray.init, address or None, ignore_reinit_error=True, log_to_driver=False, **settings)
            self._starter.submit(begun).result()
            serve.start(proxy_location="Disabled")  # callers come through our own service
            if running(serve, self.name, timeout):
                self._handle = serve.get_app_handle(self.name)
            else:
                self._handle = serve.run(self._deployment(serve), name=self.name, route_prefix=None)
        except Exception as error:  # Ray's own kinds, of which there are many
            raise MaquetteError(f"no engine could be started on Ray: {error}") from error

    @property
    def name(self) -> str:
        """Of the application on the cluster: engines of another setup have another one."""
        return f"maquette-{hashlib.sha256(repr(self.setup).encode()).hexdigest()[:12]}"

    def _deployment(self, serve: Any) -> Any:
        wanted = self.cluster
        scaling = {"min_replicas": wanted.least, "max_replicas": wanted.most, "target_ongoing_requests": wanted.busy}
        return serve.deployment(
            EngineReplica,
            name="engine",
            max_ongoing_requests=self.setup.active,
            autoscaling_config={**scaling, "initial_replicas": wanted.least},
            ray_actor_options={"num_cpus": wanted.cpus, "num_gpus": wanted.gpus},
        ).bind(self.setup)

    @property
    def ready(self) -> bool:
        """Whether orders are taken."""
        return self._handle is not None

    @property
    def waiting(self) -> int:
        """Orders that are not ended."""
        return len(self._answers)

    def submit(self, order: Order, report: Callable[[Event], None]) -> int:
        """Takes an order; `report` is told on a thread of its own what becomes of it."""
        ticket = next(self._tickets)
        answer = self._handle.options(stream=True).make.remote(packed(order))
        self._answers[ticket] = answer
        threading.Thread(target=self._follow, args=(ticket, answer, order, report), daemon=True).start()
        return ticket

    def cancel(self, ticket: int) -> None:
        """An order is not wanted any more."""
        if (answer := self._answers.get(ticket)) is not None:
            answer.cancel()

    def close(self) -> None:
        """Ends the replicas where this server is the only one that has them; orders under way are lost."""
        started, self._handle = self._handle is not None, None
        if started and not self.cluster.address:
            from ray import serve

            serve.delete(self.name)

    def _follow(self, ticket: int, answer: Any, order: Order, report: Callable[[Event], None]) -> None:
        last = Event(ticket, LOST, error="the replica died")
        try:
            for event, files in answer:
                for name, content in files.items():
                    assert order.folder is not None  # files were ordered
                    with whole_file(order.folder / name) as temporary:
                        temporary.write_bytes(content)
                last = event
                if event.kind not in (*ENDS, LOST):
                    report(event)
        except Exception as error:  # Ray's own kinds; a cancelled one is among them
            log.warning("order %d was lost on Ray: %s", ticket, type(error).__name__)
            last = Event(ticket, LOST, error="the replica died")
        self._answers.pop(ticket, None)
        report(last if last.kind in ENDS else replace(last, kind=LOST))


def running(serve: Any, name: str, timeout: float) -> bool:
    """Whether an application runs on a cluster; waits for one that another server is just starting."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = serve.status().applications.get(name)
        if found is None or found.status != "DEPLOYING":
            return found is not None and found.status == "RUNNING"
        time.sleep(0.5)
    return False
