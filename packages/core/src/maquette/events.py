"""What went wrong in a run and what it did about it by itself: a JSON line an event, in the run's folder.

RUN/events/rank_00000.jsonl holds what rank 0 has seen; a file a rank, since ranks may be on different machines. What
ended a process, with its evidence, has a folder of its own: see `maquette.forensics.incidents`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from maquette.json_lines import append_line, read_lines
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
        entry = {"time": round(time.time(), 3), "rank": self.rank, "kind": kind, **facts}
        try:
            append_line(self.path, entry, flush=True)
        except OSError as error:
            say(f"warning: an event ({kind}) could not be written to '{self.path}': {error.strerror}")


def read_events(run: Path) -> list[dict[str, Any]]:
    """The events of all ranks in the order of their time; a line that a kill or a full disk cut off is left out."""
    found: list[dict[str, Any]] = []
    for path in sorted((run / "events").glob("rank_*.jsonl")):
        with path.open("rb") as file:
            found += read_lines(file)
    return sorted(found, key=lambda entry: float(entry["time"]))
