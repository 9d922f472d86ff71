"""What went wrong in a run and what it did about it by itself: a JSON line an event, in the run's folder.

RUN/events/rank_00000.jsonl holds what rank 0 has seen; a file a rank, since ranks may be on different machines. What
ended a process, with its evidence, has a folder of its own: see `maquette.forensics.incidents`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maquette.progress import say


class EventLog:
    """Writes one process's events. A line that cannot be written costs a warning and nothing else.

    Args:
        run: the run's folder.
        rank: of this process.
    """

    def __init__(self, run: Path, rank: int = 0) -> None:
        self.rank = rank
        self.path = run / "events" / f"rank_{rank:05d}.jsonl"

    def add(self, kind: str, **facts: Any) -> None:
        """Append an event and flush it to the disk; threads may call it.

        Args:
            kind: what happened, e.g. ``spike``.
            facts: plain data, e.g. the step, the samples and what was done.
        """
        entry = {"time": round(time.time(), 3), "rank": self.rank, "kind": kind, **_plain(facts)}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, (json.dumps(entry) + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            say(f"warning: an event ({kind}) could not be written to '{self.path}': {error.strerror}")


def read_events(run: Path) -> list[dict[str, Any]]:
    """The events of all ranks in the order of their time; a line that a kill or a full disk cut off is left out."""
    found = []
    for file in sorted((run / "events").glob("rank_*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return sorted(found, key=lambda entry: float(entry["time"]))


def _plain(value: Any) -> Any:
    """The value as strict JSON can hold it: NaN and the infinities as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
