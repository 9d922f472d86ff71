"""JSON that others may have written: bounded in length and depth, and wrong in one way only, as ``ValueError``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST_BYTES = 64 * 2**20


def parse_json(text: str | bytes, largest: int = LARGEST_BYTES) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: too long, nested too deeply, or no JSON.
    """
    if len(text) > largest:
        raise ValueError(f"{len(text)} bytes of JSON, at most {largest} are read")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def read_json(path: Path, largest: int = LARGEST_BYTES) -> Any:
    """The value in a JSON file; raises as :func:`parse_json`, or ``OSError``."""
    with path.open("rb") as file:
        return parse_json(file.read(largest + 1), largest)
