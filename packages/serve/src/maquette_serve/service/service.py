"""What the HTTP side stands on: the store, the engines and the files, with the rules of what is taken in."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from maquette.errors import MaquetteError
from maquette_serve.engine.engine_setup import EngineSetup
from maquette_serve.engine.replicas import Replicas
from maquette_serve.service import tracing
from maquette_serve.service.dispatcher import Dispatcher, Engines
from maquette_serve.service.fetching import PublicServers
from maquette_serve.service.files import Files
from maquette_serve.service.keys import Key, Keys, Rates
from maquette_serve.service.messages import LARGEST_SEED
from maquette_serve.service.store import Store
from maquette_serve.service.task import Task, new_id

_UPLOAD = re.compile(r"[0-9a-f-]{36}\.[a-z0-9]{1,8}", re.ASCII)


class TooMany(MaquetteError):
    """A limit of the key, or of the server, is reached."""


@dataclass(frozen=True)
class Settings:
    """How a service runs.

    Args:
        engines: what each engine opens.
        folder: of the database and the files.
        database: URL of SQLAlchemy; "" is SQLite in the folder.
        object_store: URL of fsspec, of files that several servers share; "" is the folder.
        replicas: engines, at most.
        upload_bytes: the largest upload, and the largest body of a request.
        attempts: how often a task is begun.
        retention_hours: how long a task and its files are kept.
        roles: pipelines that are chosen for roles, see `roles_of`.
        open: whether requests need no key; only for servers that nobody else can reach.
    """

    engines: EngineSetup
    folder: Path
    database: str = ""
    object_store: str = ""
    replicas: int = 1
    upload_bytes: int = 100 * 2**20
    attempts: int = 3
    retention_hours: float = 72.0
    roles: Mapping[str, str] = field(default_factory=dict)
    open: bool = False


@dataclass(eq=False)
class Service:
    """Tasks are taken in, shown, cancelled and forgotten here, whatever address they came by.

    Args:
        settings: how it runs.
        engines: who does the work; by default processes of this machine.
    """

    settings: Settings
    engines: Engines | None = None
    store: Store = field(init=False)
    keys: Keys = field(init=False)
    files: Files = field(init=False)
    replicas: Engines = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    rates: Rates = field(default_factory=Rates)
    loop: asyncio.AbstractEventLoop | None = None
    failure: str = ""
    stop: Callable[[], None] = lambda: None
    _lock: IO[bytes] | None = None
    _listeners: dict[str, set[asyncio.Event]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.settings
        settings.folder.mkdir(parents=True, exist_ok=True)
        holder = new_id()
        if not settings.database:
            # What a server of this folder held belongs to nobody, since there is no other one.
            self._lock, holder = locked(settings.folder), "server"
        url = settings.database or f"sqlite:///{settings.folder / 'tasks.db'}"
        self.store = Store(url, settings.attempts, retention=int(settings.retention_hours * 3_600_000))
        self.keys = Keys(self.store.engine)
        self.files = Files(settings.folder, settings.object_store)
        self.replicas = self.engines or Replicas(settings.engines, settings.replicas)
        most = settings.engines.active * settings.replicas
        self.dispatcher = Dispatcher(
            self.store, self.replicas, self.files, self._changed, holder, most=most, sweep=self.sweep
        )

    def start(self) -> None:
        """Starts the engines, then what gives them tasks; tasks are taken in meanwhile.

        Where an engine cannot be started, `failure` says why, and `stop` is called.
        """

        def run() -> None:
            try:
                self.replicas.start()
                self.dispatcher.start()
            except MaquetteError as error:
                self.failure = str(error)
                self.stop()

        threading.Thread(target=run, name="start", daemon=True).start()

    def close(self) -> None:
        """Ends all; what is under way is begun again by the next server."""
        self.dispatcher.close()
        self.replicas.close()
        if self._lock is not None:
            self._lock.close()

    def accept(self, key: Key, task: Task, idempotency: str | None = None, webhook: str = "") -> Task:
        """Takes a task in.

        Raises:
            TooMany: the key has as many unfinished tasks as it may have.
            MaquetteError: no such pipeline, a webhook that is not https, or an idempotency key that came with another
                body.
        """
        for work in task.works:
            if work["pipeline"] not in self.settings.engines.pipelines:
                known = ", ".join(self.settings.engines.pipelines)
                raise MaquetteError(f"there is no pipeline '{work['pipeline']}'; known: {known}")
        if webhook:
            PublicServers().checked(webhook)
        if self.store.unfinished(key.id) >= key.queue:
            raise TooMany(f"{key.queue} tasks of this key are not over yet; wait for one of them")
        body = json.dumps(task.body, sort_keys=True)
        if trace := tracing.carried():
            task = replace(task, inputs={**task.inputs, "trace": trace})
        made = self.store.create(task, idempotency, hashlib.sha256(body.encode()).hexdigest(), webhook)
        self.dispatcher.wake()
        return made

    def new_task(self, key: Key, kind: str, pipeline: str, inputs: Mapping[str, Any], body: Mapping[str, Any]) -> Task:
        """A task with a seed, which is drawn where the caller gave none."""
        seed = inputs.get("seed")
        inputs = {**inputs, "seed": secrets.randbelow(LARGEST_SEED) if seed is None else seed}
        return Task(new_id(), key.id, kind, pipeline, inputs, body, priority=int(inputs.get("priority", 0)))

    def cancel(self, task: Task) -> Task:
        """Ends a task that is not over."""
        after = self.store.cancel(task.id, task.owner)
        self.dispatcher.cancel(task.id)
        self._changed(task.id)
        return after or task

    def forget(self, task: Task) -> None:
        """Cancels a task where it is under way, and removes it and its files."""
        self.cancel(task)
        self.files.remove(f"files/{task.id}")
        self.store.remove(task.id)

    def sweep(self) -> None:
        """Forgets tasks whose time of keeping is over, with their files, and uploads that are as old."""
        for identity in self.store.expired():
            self.files.remove(f"files/{identity}")
            self.store.remove(identity)
        self.files.sweep(self.settings.retention_hours)

    def file_of(self, task: Task, name: str) -> Path | None:
        """A file that a task made, or None where it made none of that name."""
        key = task.files.get(name)
        return None if key is None else self.files.local(key)

    def new_upload(self, owner: str, suffix: str) -> tuple[str, str]:
        """The id of an upload, and the key of its file."""
        identity = new_id() + suffix
        return identity, f"uploads/{owner}/{identity}"

    def upload_of(self, owner: str, identity: str) -> str | None:
        """The key of an upload's file, or None where that owner has none of that id."""
        key = f"uploads/{owner}/{identity}"
        return key if _UPLOAD.fullmatch(identity) and self.files.local(key) is not None else None

    def listen(self, identity: str) -> asyncio.Event:
        """Set whenever something is told of a task; on the server's event loop alone."""
        event = asyncio.Event()
        self._listeners.setdefault(identity, set()).add(event)
        return event

    def unlisten(self, identity: str, event: asyncio.Event) -> None:
        """Ends `listen`."""
        waiting = self._listeners.get(identity, set())
        waiting.discard(event)
        if not waiting:
            self._listeners.pop(identity, None)

    def _changed(self, identity: str) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._wake, identity)

    def _wake(self, identity: str) -> None:
        for event in self._listeners.get(identity, ()):
            event.set()


def locked(folder: Path) -> IO[bytes]:
    """The lock of a service's folder, held until its file is closed.

    Raises:
        MaquetteError: another server has it.
    """
    file = (folder / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise MaquetteError(
            f"another server uses '{folder}'; give this one a folder of its own: --data FOLDER"
        ) from None
    return file
