"""A process's readings as JSON lines in the run's folder: bounded, and readable whatever ended the process.

RUN/monitor/rank_00000.jsonl is written by rank 0, a line a reading. When it is full it becomes
rank_00000.old.jsonl, in place of an older one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maquette.json_lines import append_line, read_lines
from maquette.progress import say

Record = dict[str, Any]

TAIL = 64 * 1024
"""Bytes at the end of a file that surely hold its last record."""


def journal_file(run: Path, rank: int) -> Path:
    """Where a rank writes."""
    return run / "monitor" / f"rank_{rank:05d}.jsonl"


class Journal:
    """Writes one rank's readings. What cannot be written costs one warning and nothing else.

    Args:
        run: the run's folder.
        rank: of this process.
        size: bytes that both files may hold together, give or take a line each.
    """

    def __init__(self, run: Path, rank: int, size: int) -> None:
        self.path, self.size = journal_file(run, rank), size
        self._warned = False

    def write(self, record: Record) -> None:
        """Append a record; every record has its ``time``."""
        try:
            # Before the line, not after it: there is always a file with the newest one.
            if self.path.is_file() and self.path.stat().st_size >= self.size // 2:
                self.path.replace(self.path.with_suffix(".old.jsonl"))
            append_line(self.path, record)
        except OSError as error:
            if not self._warned:
                self._warned = True
                say(f"warning: no readings are written to '{self.path}': {error.strerror}")


def read_journal(file: Path) -> Iterator[Record]:
    """All records that are left of a rank's, oldest first."""
    for part in (file.with_suffix(".old.jsonl"), file):
        if part.is_file():
            with part.open("rb") as lines:
                yield from read_lines(lines)


def last_records(file: Path, since: float = float("inf")) -> list[Record]:
    """The records of the last kilobytes that are newer than ``since`` (of ``time.time``), or else the newest one."""
    try:
        with file.open("rb") as content:
            content.seek(max(0, file.stat().st_size - TAIL))
            found = list(read_lines(content))
    except OSError:
        return []
    return [record for record in found if record["time"] > since] or found[-1:]


def journals(run: Path) -> list[Path]:
    """The files of all ranks, in their order."""
    return sorted(path for path in (run / "monitor").glob("rank_*.jsonl") if not path.name.endswith(".old.jsonl"))
