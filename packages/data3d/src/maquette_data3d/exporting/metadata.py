"""How an asset came to be, as far as a text format can say it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_DEEPEST = 8
_LARGEST = 16384


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that JSON can hold: texts, finite numbers, and lists and mappings of them.

    Others, and those of more than 16 KiB (hulls are data of their own), are left out.
    """
    found = {str(key): _value(value, 0) for key, value in metadata.items()}
    return {key: value for key, value in found.items() if value is not None and len(json.dumps(value)) <= _LARGEST}


def _value(value: Any, depth: int) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping) and depth < _DEEPEST:
        items = {str(key): _value(entry, depth + 1) for key, entry in value.items()}
        return {key: entry for key, entry in items.items() if entry is not None}
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        entries = [_value(entry, depth + 1) for entry in value]
        return None if any(entry is None for entry in entries) else entries
    return None
