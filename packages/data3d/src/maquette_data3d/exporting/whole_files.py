"""A file and those beside it, there together or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from maquette.durable import whole_file

_UNSAFE = re.compile(r"[^\w.-]+")


def write_together(path: Path, content: bytes, beside: Mapping[str, bytes]) -> None:
    """Writes `path` and files in its folder; all are complete before any takes its place, `path` comes last."""
    with ExitStack() as stack:
        for name, data in ((path.name, content), *beside.items()):
            # The first to enter is the last to be put in its place.
            stack.enter_context(whole_file(path.parent / name)).write_bytes(data)


def plain_name(name: str, otherwise: str) -> str:
    """A name that any reader can handle, without blanks, signs and line breaks."""
    return _UNSAFE.sub("_", name).strip("._") or otherwise


def unique(names: list[str]) -> list[str]:
    """The same names, those that were there before (in any case) with a number behind."""
    taken: set[str] = set()
    found = []
    for name in names:
        candidate, number = name, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate.lower())
        found.append(candidate)
    return found
