"""What somebody asked the service for, and what has become of it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PENDING, IN_PROGRESS = "PENDING", "IN_PROGRESS"
SUCCEEDED, FAILED, CANCELED = "SUCCEEDED", "FAILED", "CANCELED"
OVER = (SUCCEEDED, FAILED, CANCELED)
DAY_MS = 24 * 3600 * 1000


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): those made later sort later."""
    value = (now_ms() << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


@dataclass(frozen=True)
class Task:
    """A row of the store; times are milliseconds since 1970.

    Attributes:
        id: a UUID of version 7.
        owner: the key that asked.
        kind: under which address it is found, such as "text-to-3d"; "task" for the native ones.
        pipeline: what the engine is asked for; of several pieces of work, for the first.
        inputs: as the engine is asked: prompt, seed, keys of the files of pictures and meshes, finishing, formats; and
            `then`, the pieces of work that follow, each on the mesh of the one before.
        body: what the caller sent, to be shown again.
        status: PENDING, IN_PROGRESS, SUCCEEDED, FAILED or CANCELED.
        progress: 0 to 100.
        priority: one of more goes before.
        attempt: how often an engine has begun a piece of it.
        error: why it failed.
        result: `stages`, one for each piece of work that is done: its pipeline, metadata, faces, and keys of files by
            their names.
        created, started, finished, expires: when.
    """

    id: str
    owner: str
    kind: str
    pipeline: str
    inputs: Mapping[str, Any]
    body: Mapping[str, Any] = field(default_factory=dict)
    status: str = PENDING
    progress: int = 0
    priority: int = 0
    attempt: int = 0
    error: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    created: int = 0
    started: int | None = None
    finished: int | None = None
    expires: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in OVER

    @property
    def works(self) -> list[Mapping[str, Any]]:
        """All pieces of work, the first of them the task's own."""
        return [{**self.inputs, "pipeline": self.pipeline}, *self.inputs.get("then", ())]

    @property
    def stages(self) -> list[Mapping[str, Any]]:
        """What came of the pieces that are done."""
        return list(self.result.get("stages", ()))

    @property
    def files(self) -> dict[str, str]:
        """Keys of all files by their names."""
        return {name: key for stage in self.stages for name, key in stage["files"].items()}

    @property
    def made(self) -> Mapping[str, Any]:
        """Metadata and faces of what the task was to make; nothing while pieces of it are not done."""
        return self.stages[-1] if len(self.stages) == len(self.works) else {}


@dataclass(frozen=True)
class TaskEvent:
    """A change of a task. `sequence` grows over all tasks of a store; `state` is what there is to say."""

    sequence: int
    task: str
    state: Mapping[str, Any]
