"""What callers' servers are to be told: written down with the end of a task, and kept until it was told."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, and_, func, select, update

from maquette_serve.service.schema import KEYS, TASKS, WEBHOOKS
from maquette_serve.service.task import now_ms

LEASE = 60_000
"""Milliseconds after which a try counts as lost with the server that made it."""
WAITS = (5_000, 30_000, 120_000, 600_000, 3_600_000)
"""Milliseconds between tries; after one more it is given up."""
DISABLING = 3
"""So many tasks in a row of which an address could not be told, and it is tried no more."""


@dataclass(frozen=True)
class Notice:
    """The end of a task, to be told to an address.

    Attributes:
        number: of the row.
        task: its id.
        owner: the key that asked for the task.
        address: of the caller's server.
        tries: with the one that is under way.
        secret: what the owner's notices are signed with; "" for none.
    """

    number: int
    task: str
    owner: str
    address: str
    tries: int
    secret: str


class Outbox:
    """The notices of a database. Safe to call from any thread and process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(reading=True)

    def claim(self) -> Notice | None:
        """The notice that has waited longest, now this caller's for a minute; None where none is due."""
        now = now_ms()
        due = and_(WEBHOOKS.c.done.is_(False), WEBHOOKS.c.next_try <= now)
        chosen = select(WEBHOOKS.c.number).where(due).order_by(WEBHOOKS.c.next_try).limit(1)
        with self._reader.connect() as connection:
            if connection.execute(chosen).first() is None:
                return None
        if self._engine.dialect.name == "postgresql":
            chosen = chosen.with_for_update(skip_locked=True)
        changes = {"tries": WEBHOOKS.c.tries + 1, "next_try": now + LEASE}
        mine = update(WEBHOOKS).where(WEBHOOKS.c.number == chosen.scalar_subquery()).values(changes)
        with self._engine.begin() as connection:
            row = connection.execute(mine.returning(WEBHOOKS)).first()
            if row is None:
                return None
            owner = connection.execute(select(TASKS.c.owner).where(TASKS.c.id == row.task)).scalar_one()
            secret = connection.execute(select(KEYS.c.webhook_secret).where(KEYS.c.id == owner)).scalar()
        return Notice(row.number, row.task, owner, row.address, row.tries, secret or "")

    def told(self, notice: Notice, said: str) -> None:
        """The other side has it."""
        self._change(notice, done=True, said=said)

    def failed(self, notice: Notice, said: str) -> None:
        """It was not told: it is tried again later, or given up."""
        if notice.tries > len(WAITS):
            self._change(notice, done=True, said=f"given up: {said}")
        else:
            self._change(notice, next_try=now_ms() + WAITS[notice.tries - 1], said=said)

    def drop(self, notice: Notice, said: str) -> None:
        """It will not be told."""
        self._change(notice, done=True, said=f"given up: {said}")

    def disabled(self, notice: Notice) -> bool:
        """Whether the owner's last tasks could not be told to the address at all.

        Rows go with their tasks, so that an address gets another chance when those are forgotten.
        """
        same = and_(WEBHOOKS.c.address == notice.address, TASKS.c.owner == notice.owner, WEBHOOKS.c.done)
        query = select(WEBHOOKS.c.said).join(TASKS, TASKS.c.id == WEBHOOKS.c.task).where(same)
        with self._reader.connect() as connection:
            last = connection.execute(query.order_by(WEBHOOKS.c.number.desc()).limit(DISABLING)).scalars().all()
        return len(last) == DISABLING and all(said.startswith("given up") for said in last)

    def waiting(self) -> int:
        """How many notices are neither told nor given up."""
        with self._reader.connect() as connection:
            query = select(func.count()).select_from(WEBHOOKS).where(WEBHOOKS.c.done.is_(False))
            return int(connection.execute(query).scalar_one())

    def _change(self, notice: Notice, **values: object) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.number == notice.number).values(values))
