"""One folder an incident, under ``incidents/`` of the run: a summary for people, one for programs, and the evidence."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.durable import write_json, write_text
from maquette.secrets import scrubbed, scrubbed_tree

FOLDER = "incidents"
TAIL = 64 * 1024
"""Bytes of a long log that are kept."""


@dataclass(frozen=True)
class Incident:
    """What is kept of one hang, crash or lack of memory."""

    path: Path
    kind: str
    line: str

    @property
    def summary(self) -> Path:
        """For people."""
        return self.path / "summary.txt"

    def keep(self, name: str, text: str) -> None:
        """A piece of evidence, e.g. ``stacks.rank0.txt``; nothing where there is none."""
        if text.strip():
            write_text(self.path / name, scrubbed(text))

    def add(self, line: str) -> None:
        """What happened next."""
        with self.summary.open("a", encoding="utf-8") as file:
            file.write(f"{_moment()}  {scrubbed(line)}\n")


def record(run: Path, kind: str, line: str, facts: Mapping[str, Any], body: str = "") -> Incident:
    """Make an incident's folder and its summary, without secrets in them.

    Args:
        run: the run's folder.
        kind: hang, crash or out_of_memory.
        line: what happened, in one line.
        facts: the same for programs; plain data.
        body: more for people, below the line.
    """
    path = _new_folder(run / FOLDER, kind)
    line, body = scrubbed(line), scrubbed(body)
    host = socket.gethostname()
    head = f"{_moment()}  on {host}: {line}\n"
    write_text(path / "summary.txt", head + (f"\n{body.rstrip()}\n\n" if body else ""))
    told = {"kind": kind, "when": time.time(), "host": host, "line": line, **scrubbed_tree(facts)}
    write_json(path / "incident.json", told)
    return Incident(path, kind, line)


def incidents(run: Path) -> Iterator[Path]:
    """The folders of a run's incidents, oldest first."""
    yield from sorted(path.parent for path in (run / FOLDER).glob("*/summary.txt"))


def tail(path: Path, size: int = TAIL) -> str:
    """The end of a text file; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _new_folder(parent: Path, kind: str) -> Path:
    stem = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    number = 1
    while True:
        path = parent / f"{stem}_{kind}{'' if number == 1 else f'_{number}'}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:  # another node's launcher, in the same second
            number += 1


def _moment() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
