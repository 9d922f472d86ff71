"""A process's readings as JSON lines in the run's folder: bounded, and readable whatever ended the process.

RUN/monitor/rank_00000.jsonl is written by rank 0, a line a reading. When it is full it becomes
rank_00000.old.jsonl, in place of an older one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maquette.json_lines import append_line, read_lines
from maquette.progress import say

Record = dict[str, Any]

TAIL = 64 * 1024
"""Bytes at the end of a file that are looked at first: they hold its last record."""


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
                self.path.replace(_old(self.path))
            append_line(self.path, record)
        except OSError as error:
            if not self._warned:
                self._warned = True
                say(f"warning: no readings are written to '{self.path}': {error.strerror}")


def read_journal(file: Path) -> Iterator[Record]:
    """All records that are left of a rank's, oldest first."""
    for part in (_old(file), file):
        if part.is_file():
            with part.open("rb") as lines:
                yield from read_lines(lines)


def last_records(file: Path, since: float = float("inf")) -> list[Record]:
    """The records that are newer than ``since`` (of ``time.time``), or else the newest one."""
    found = _tail(file, since)
    if not found or found[0]["time"] > since:
        found = _tail(_old(file), since) + found
    return [record for record in found if record["time"] > since] or found[-1:]


def _tail(file: Path, since: float) -> list[Record]:
    """Records from the end of a file back to one that is no newer than ``since``, or to its beginning."""
    size = TAIL
    try:
        with file.open("rb") as content:
            length = content.seek(0, os.SEEK_END)
            while True:
                content.seek(max(0, length - size))
                found = list(read_lines(content))
                if size >= length or (found and found[0]["time"] <= since):
                    return found
                size *= 2
    except OSError:
        return []


def _old(file: Path) -> Path:
    return file.with_suffix(".old.jsonl")


def journals(run: Path) -> list[Path]:
    """The files of all ranks, in their order."""
    return sorted(path for path in (run / "monitor").glob("rank_*.jsonl") if not path.name.endswith(".old.jsonl"))
