"""Files of JSON lines: a process appends to its own, and others read them meanwhile.

A line is one ``write``, so a kill leaves whole lines. What a full disk or the machine's end has torn is passed over.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maquette.json_text import parse_json


def append_line(path: Path, entry: Mapping[str, Any], *, flush: bool = False) -> None:
    """Append plain data as a line of strict JSON; NaN and the infinities become text.

    Args:
        path: the file; it and its folder are made where they are missing.
        entry: the line.
        flush: wait until the disk has it.

    Raises:
        OSError: it cannot be written.
    """
    line = json.dumps(_plain(entry), separators=(",", ":")) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = not _ends_with_a_line(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, ("\n" * torn + line).encode())
        if flush:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The entries of an open file, those that are whole and tell their ``time``."""
    for line in lines:
        try:
            entry = parse_json(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("time"), int | float):
            yield entry


def _ends_with_a_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except FileNotFoundError:
        return True


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
