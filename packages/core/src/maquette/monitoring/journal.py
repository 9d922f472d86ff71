"""A process's readings as JSON lines in the run's folder: bounded, and readable whatever ended the process.

RUN/monitor/rank_00000.jsonl is written by rank 0, a line a reading. When it is full it becomes
rank_00000.old.jsonl, in place of an older one. A line is one ``write``: a kill leaves whole lines. Where a full disk or
the machine's end has torn one, it is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        size: bytes that both files may hold together.
    """

    def __init__(self, run: Path, rank: int, size: int) -> None:
        self.path, self.size = journal_file(run, rank), size
        self._warned = False

    def write(self, record: Record) -> None:
        """Append a record; NaN and the infinities become null."""
        line = json.dumps(_finite(record), separators=(",", ":")) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size + len(line) > self.size // 2:
                self.path.replace(self.path.with_suffix(".old.jsonl"))
            torn = self.path.exists() and not _ends_with_a_line(self.path)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, ("\n" * torn + line).encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._warned:
                self._warned = True
                say(f"warning: no readings are written to '{self.path}': {error.strerror}")


def read_journal(file: Path) -> Iterator[Record]:
    """All records that are left of a rank's, oldest first."""
    for part in (file.with_suffix(".old.jsonl"), file):
        if part.is_file():
            with part.open("rb") as lines:
                yield from _records(lines)


def last_records(file: Path, since: float = float("inf")) -> list[Record]:
    """The records of the last kilobytes that are newer than ``since`` (of ``time.time``), or else the newest one."""
    try:
        with file.open("rb") as content:
            content.seek(max(0, file.stat().st_size - TAIL))
            found = list(_records(content))
    except OSError:
        return []
    return [record for record in found if record["time"] > since] or found[-1:]


def journals(run: Path) -> list[Path]:
    """The files of all ranks, in their order."""
    return sorted(path for path in (run / "monitor").glob("rank_*.jsonl") if not path.name.endswith(".old.jsonl"))


def _records(lines: Any) -> Iterator[Record]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "time" in record:
            yield record


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
