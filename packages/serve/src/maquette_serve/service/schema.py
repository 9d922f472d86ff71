"""The tables of the store, for SQLite and PostgreSQL alike."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData()
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts on by itself in INTEGER keys alone

TASKS = Table(
    "tasks",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("pipeline", String(128), nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("body", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("progress", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("result", JSON, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger),
    Column("finished", BigInteger),
    Column("expires", BigInteger),
    Column("holder", String(64)),  # the server whose engine has it
    Column("lease", BigInteger),  # until when
    Column("idempotency", String(160), unique=True),  # owner and key of the caller
    Column("digest", String(64)),  # of the body that came with that key
    Column("webhook", Text),
    Index("tasks_by_status", "status", "priority", "created"),
    Index("tasks_by_owner", "owner", "kind", "created"),
)
EVENTS = Table(
    "events",
    METADATA,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("task", String(36), nullable=False, index=True),
    Column("state", JSON, nullable=False),
)
WEBHOOKS = Table(
    "webhooks",
    METADATA,
    Column("number", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("task", String(36), nullable=False),
    Column("address", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_try", BigInteger, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("said", Text, nullable=False),  # what the last try came to
)
KEYS = Table(
    "keys",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("rate", Float, nullable=False),  # requests a second
    Column("queue", Integer, nullable=False),  # tasks not over
    Column("created", BigInteger, nullable=False),
    Column("revoked", BigInteger),
    Column("webhook_secret", String(64), nullable=False),
)
SECRETS = Table(
    "secrets",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", String(64), nullable=False),  # hexadecimal
)
