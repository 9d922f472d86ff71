"""Tasks that outlive the server: what was accepted is there after any crash, and ends once.

A task is begun by the one server that claims it, which holds a lease on it; a lease that ran out is anybody's. What a
server says of a task counts only while it holds the attempt that it says it of.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, and_, create_engine, delete, event, func, insert, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from maquette.errors import MaquetteError
from maquette_serve.service.schema import EVENTS, METADATA, SECRETS, TASKS, WEBHOOKS
from maquette_serve.service.task import CANCELED, FAILED, IN_PROGRESS, OVER, PENDING, SUCCEEDED, Task, TaskEvent, now_ms

_CREATING = 0x6D6171
"""Number of the lock under which tables are created."""
COLUMNS = [TASKS.c[field.name] for field in fields(Task)]


class Conflict(MaquetteError):
    """The same idempotency key came with another body."""


class Store:
    """Tasks, their events and their webhooks, in one database. Safe to call from any thread and process.

    Args:
        url: of SQLAlchemy: "sqlite:///FILE" or "postgresql+psycopg://...".
        attempts: how often a task is begun before it fails.
        lease: milliseconds that a claim holds without a sign of life.
        retention: milliseconds that a task is kept after its end.
    """

    def __init__(self, url: str, attempts: int = 3, lease: int = 30_000, retention: int = 3 * 24 * 3600 * 1000) -> None:
        self.attempts, self.lease, self.retention = attempts, lease, retention
        self.engine = connected(url)
        self.reader = self.engine.execution_options(reading=True)
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":  # where two that create a table at once collide
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CREATING})")
            METADATA.create_all(connection)

    def create(self, task: Task, idempotency: str | None = None, digest: str = "", webhook: str = "") -> Task:
        """Takes a task in; with an idempotency key that was there before, gives the task that it made.

        Raises:
            Conflict: that task had another body.
        """
        task = replace(task, created=now_ms())
        key = None if idempotency is None else f"{task.owner}:{idempotency}"
        row = {**asdict(task), "idempotency": key, "digest": digest, "webhook": webhook}
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(TASKS), row)
                self._note(connection, task)
            return task
        except IntegrityError:
            with self.reader.connect() as connection:
                found = connection.execute(select(*COLUMNS, TASKS.c.digest).where(TASKS.c.idempotency == key)).first()
            if found is None:
                raise
            if found.digest != digest:
                raise Conflict(f"idempotency key '{idempotency}' was used with another request") from None
            return task_of(found)

    def get(self, identity: str, owner: str | None = None) -> Task | None:
        """A task of an owner (None: of anybody)."""
        where = TASKS.c.id == identity
        if owner is not None:
            where = and_(where, TASKS.c.owner == owner)
        with self.reader.connect() as connection:
            row = connection.execute(select(*COLUMNS).where(where)).first()
        return None if row is None else task_of(row)

    def page(self, owner: str, kinds: Sequence[str], start: int, size: int, newest_first: bool = True) -> list[Task]:
        """Tasks of an owner, by when they were made."""
        order = (TASKS.c.created.desc(), TASKS.c.id.desc()) if newest_first else (TASKS.c.created, TASKS.c.id)
        where = and_(TASKS.c.owner == owner, TASKS.c.kind.in_(kinds))
        query = select(*COLUMNS).where(where).order_by(*order).offset(start).limit(size)
        with self.reader.connect() as connection:
            return [task_of(row) for row in connection.execute(query)]

    def unfinished(self, owner: str | None = None) -> int:
        """How many tasks of an owner (None: of all) are not over."""
        where = TASKS.c.status.not_in(OVER)
        if owner is not None:
            where = and_(where, TASKS.c.owner == owner)
        with self.reader.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(TASKS).where(where)).scalar_one())

    def before(self, task: Task) -> int:
        """How many tasks of anybody wait before a task."""
        older = or_(TASKS.c.created < task.created, and_(TASKS.c.created == task.created, TASKS.c.id < task.id))
        sooner = or_(TASKS.c.priority > task.priority, and_(TASKS.c.priority == task.priority, older))
        query = select(func.count()).select_from(TASKS).where(and_(TASKS.c.status == PENDING, sooner))
        with self.reader.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def claim(self, holder: str) -> Task | None:
        """The most urgent task that nobody holds, now held by `holder`; None where there is none.

        A task that was begun too often already fails here; each piece of work that is done allows for one more.
        """
        while True:
            with self.engine.begin() as connection:
                row = connection.execute(self._claiming(holder)).first()
                if row is None:
                    return None
                task = task_of(row)
                if task.attempt <= self.attempts + len(task.stages):
                    self._note(connection, task)
                    return task
                words = f"given up after {self.attempts} attempts: the engine or the store of files was lost each time"
                self._finish(connection, held(task), FAILED, words)

    def _claiming(self, holder: str) -> Any:
        now = now_ms()
        free = or_(TASKS.c.status == PENDING, and_(TASKS.c.status == IN_PROGRESS, TASKS.c.lease < now))
        chosen = select(TASKS.c.id).where(free).order_by(TASKS.c.priority.desc(), TASKS.c.created, TASKS.c.id).limit(1)
        if self.engine.dialect.name == "postgresql":
            chosen = chosen.with_for_update(skip_locked=True)
        changes = {
            "status": IN_PROGRESS,
            "attempt": TASKS.c.attempt + 1,
            "holder": holder,
            "lease": now + self.lease,
            "started": func.coalesce(TASKS.c.started, now),
        }
        return update(TASKS).where(TASKS.c.id == chosen.scalar_subquery()).values(changes).returning(*COLUMNS)

    def keep(self, holder: str, held: Sequence[str]) -> set[str]:
        """A sign of life: the leases of those tasks go on; the ids of those that `holder` still has."""
        mine = and_(TASKS.c.holder == holder, TASKS.c.id.in_(held))
        where = and_(mine, TASKS.c.status == IN_PROGRESS, TASKS.c.lease != 0)
        kept = update(TASKS).where(where).values(lease=now_ms() + self.lease).returning(TASKS.c.id)
        with self.engine.begin() as connection:
            return set(connection.execute(kept).scalars())

    def release(self, task: Task) -> None:
        """An attempt came to nothing that is the task's fault, or nobody's: it may be claimed at once."""
        with self.engine.begin() as connection:
            connection.execute(update(TASKS).where(held(task)).values(lease=0))

    def postpone(self, task: Task) -> None:
        """An attempt was not begun, and does not count: it may be claimed when the lease has run out."""
        with self.engine.begin() as connection:
            connection.execute(update(TASKS).where(held(task)).values(attempt=task.attempt - 1))

    def release_all(self, holder: str) -> None:
        """Nobody holds what `holder` held: it is gone."""
        with self.engine.begin() as connection:
            where = and_(TASKS.c.holder == holder, TASKS.c.status == IN_PROGRESS)
            connection.execute(update(TASKS).where(where).values(lease=0))

    def progressed(self, task: Task, progress: int) -> bool:
        """Notes how far an attempt is; False where it is not held any more, or not further than before."""
        return self._change(and_(held(task), TASKS.c.progress < progress), progress=progress)

    def advance(self, task: Task, progress: int, result: Mapping[str, Any]) -> bool:
        """A piece of work is done, and the next may be claimed at once; False where it was not held any more."""
        return self._change(held(task), result=dict(result), progress=progress, lease=0)

    def succeed(self, task: Task, result: Mapping[str, Any]) -> bool:
        """Ends an attempt's task; False where it was not held any more."""
        with self.engine.begin() as connection:
            return self._finish(connection, held(task), SUCCEEDED, result=result)

    def fail(self, task: Task, error: str) -> bool:
        """As `succeed`, with why it came to nothing; what came of its first pieces of work stays."""
        with self.engine.begin() as connection:
            return self._finish(connection, held(task), FAILED, error)

    def cancel(self, identity: str, owner: str) -> Task | None:
        """Ends a task that is not over, whoever holds it; the task as it then is."""
        with self.engine.begin() as connection:
            where = and_(TASKS.c.id == identity, TASKS.c.owner == owner, TASKS.c.status.not_in(OVER))
            self._finish(connection, where, CANCELED)
        return self.get(identity, owner)

    def remove(self, identity: str) -> None:
        """Forgets a task and all that was said of it."""
        with self.engine.begin() as connection:
            connection.execute(delete(EVENTS).where(EVENTS.c.task == identity))
            connection.execute(delete(WEBHOOKS).where(WEBHOOKS.c.task == identity))
            connection.execute(delete(TASKS).where(TASKS.c.id == identity))

    def expired(self, limit: int = 100) -> list[str]:
        """Tasks whose time of keeping is over."""
        query = select(TASKS.c.id).where(TASKS.c.expires < now_ms()).limit(limit)
        with self.reader.connect() as connection:
            return [row.id for row in connection.execute(query)]

    def events(self, identity: str, after: int = 0) -> list[TaskEvent]:
        """What happened to a task after the event of a number."""
        query = select(EVENTS).where(and_(EVENTS.c.task == identity, EVENTS.c.sequence > after))
        with self.reader.connect() as connection:
            rows = connection.execute(query.order_by(EVENTS.c.sequence))
            return [TaskEvent(row.sequence, row.task, row.state) for row in rows]

    def secret(self, name: str) -> bytes:
        """A secret that all servers of this database share, made where there is none."""
        query = select(SECRETS.c.value).where(SECRETS.c.name == name)
        with self.engine.begin() as connection:
            if (value := connection.execute(query).scalar()) is not None:
                return bytes.fromhex(value)
        with suppress(IntegrityError), self.engine.begin() as connection:  # another server may be first: its holds
            connection.execute(insert(SECRETS), {"name": name, "value": secrets.token_hex(32)})
        with self.reader.connect() as connection:
            return bytes.fromhex(str(connection.execute(query).scalar_one()))

    def _change(self, where: Any, **values: Any) -> bool:
        with self.engine.begin() as connection:
            row = connection.execute(update(TASKS).where(where).values(values).returning(*COLUMNS)).first()
            if row is not None:
                self._note(connection, task_of(row))
        return row is not None

    def _finish(
        self,
        connection: Connection,
        where: Any,
        status: str,
        error: str = "",
        result: Mapping[str, Any] | None = None,
    ) -> bool:
        now = now_ms()
        changes: dict[str, Any] = {"status": status, "error": error, "finished": now}
        changes |= {"expires": now + self.retention, "holder": None, "lease": None}
        if result is not None:
            changes["result"] = dict(result)
        if status == SUCCEEDED:
            changes["progress"] = 100
        ending = update(TASKS).where(where).values(changes).returning(*COLUMNS, TASKS.c.webhook)
        row = connection.execute(ending).first()
        if row is None:
            return False
        self._note(connection, task_of(row))
        if row.webhook:
            fresh = {"tries": 0, "next_try": now, "done": False, "said": ""}
            connection.execute(insert(WEBHOOKS), {"task": row.id, "address": row.webhook, **fresh})
        return True

    def _note(self, connection: Connection, task: Task) -> None:
        state = {"id": task.id, "status": task.status, "progress": task.progress}
        connection.execute(insert(EVENTS), {"task": task.id, "state": state})


def held(task: Task) -> Any:
    """Whether an attempt is the one that counts: begun last, and not let go since."""
    mine = and_(TASKS.c.id == task.id, TASKS.c.attempt == task.attempt)
    return and_(mine, TASKS.c.status == IN_PROGRESS, TASKS.c.lease != 0)


def task_of(row: Row[Any]) -> Task:
    """The task of a row that has at least its columns."""
    return Task(**{field.name: getattr(row, field.name) for field in fields(Task)})


def connected(url: str) -> Engine:
    """An engine for a database; a file of SQLite survives crashes of the machine, and readers do not wait for writers.

    Raises:
        MaquetteError: no such database, or no driver for it.
    """
    try:
        engine = create_engine(url, pool_pre_ping=True)
        if engine.dialect.name == "sqlite":
            if engine.url.database:
                Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
            event.listen(engine, "connect", _durable)
            event.listen(engine, "begin", _writing)
        with engine.connect():
            return engine
    except Exception as error:
        raise MaquetteError(f"database '{url.rsplit('@', maxsplit=1)[-1]}' cannot be used: {error}") from error


def _durable(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, see _writing
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _writing(connection: Connection) -> None:
    # A transaction that reads and then writes would fail where another wrote between: it takes its turn at once.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
