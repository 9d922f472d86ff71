"""Who may ask: keys that are stored as hashes, with scopes and limits, and can be revoked."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, fields
from threading import Lock

from sqlalchemy import Engine, insert, select, update

from maquette.errors import MaquetteError
from maquette_serve.service.schema import KEYS
from maquette_serve.service.task import new_id, now_ms

SCOPES = ("read", "generate")
PREFIX = "mq_"


@dataclass(frozen=True)
class Key:
    """A caller; `rate` is requests a second, `queue` how many tasks that are not over."""

    id: str
    name: str
    scopes: tuple[str, ...] = SCOPES
    rate: float = 20.0
    queue: int = 100
    created: int = 0
    revoked: int | None = None
    webhook_secret: str = ""


LOCAL = Key("local", "local", rate=1000.0, queue=1000)
"""Whoever can reach a server that only this machine can reach, while it has no keys."""


class Keys:
    """The keys of a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(reading=True)
        self._known: dict[str, tuple[float, Key | None]] = {}

    def create(self, name: str, scopes: tuple[str, ...] = SCOPES, rate: float = 20.0, queue: int = 100) -> str:
        """A new key; it cannot be read again.

        Raises:
            MaquetteError: a scope that does not exist.
        """
        for scope in scopes:
            if scope not in SCOPES:
                raise MaquetteError(f"scope '{scope}' is not one of {', '.join(SCOPES)}")
        text = PREFIX + secrets.token_urlsafe(32)
        row = {"id": new_id(), "name": name, "digest": digest(text), "scopes": list(scopes), "rate": rate}
        row |= {"queue": queue, "created": now_ms(), "revoked": None, "webhook_secret": secrets.token_hex(24)}
        with self._engine.begin() as connection:
            connection.execute(insert(KEYS), row)
        return text

    def all(self) -> list[Key]:
        """Every key, revoked ones too, the oldest first."""
        with self._reader.connect() as connection:
            return [key_of(row) for row in connection.execute(select(KEYS).order_by(KEYS.c.created))]

    def revoke(self, identity: str) -> None:
        """A key opens nothing any more, within a second.

        Raises:
            MaquetteError: no such key.
        """
        with self._engine.begin() as connection:
            done = connection.execute(update(KEYS).where(KEYS.c.id == identity).values(revoked=now_ms()))
        if not done.rowcount:
            raise MaquetteError(f"no key has the id '{identity}'")

    def find(self, text: str) -> Key | None:
        """The key of a text, where it is one that holds."""
        hashed = digest(text)
        looked, known = self._known.get(hashed, (0.0, None))
        if time.monotonic() - looked > 1.0:
            with self._reader.connect() as connection:
                row = connection.execute(select(KEYS).where(KEYS.c.digest == hashed)).first()
            known = None if row is None or row.revoked is not None else key_of(row)
            if len(self._known) > 10_000:  # strangers' guesses
                self._known.clear()
            self._known[hashed] = time.monotonic(), known
        return known


class Rates:
    """How often each key may ask: a bucket of `rate` requests that fills up within a second."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = Lock()

    def take(self, key: Key) -> bool:
        """Whether a request may be made now; it then counts."""
        now = time.monotonic()
        with self._lock:
            left, then = self._left.get(key.id, (max(key.rate, 1.0), now))
            left = min(left + (now - then) * key.rate, max(key.rate, 1.0))
            allowed = left >= 1
            self._left[key.id] = left - allowed, now
        return allowed


def digest(text: str) -> str:
    """What is stored of a key: it is random enough that a plain hash cannot be turned back."""
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(row: object) -> Key:
    """The key of a row."""
    values = {field.name: getattr(row, field.name) for field in fields(Key)}
    return Key(**{**values, "scopes": tuple(values["scopes"])})
