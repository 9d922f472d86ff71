"""Ways in which a finished checkpoint is damaged where it lies."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

WAYS = ("bit flip", "truncation", "zeroed block", "missing shard", "stale manifest")


def damage(newest: Path, older: Path, way: str, chance: random.Random) -> str:
    """Harm a checkpoint in one of `WAYS`; says what was done to which file."""
    files = sorted(newest.glob("*.safetensors"))
    file = files[chance.randrange(len(files))]
    if way == "stale manifest":
        shutil.copy(older / "manifest.json", newest / "manifest.json")
        return f"manifest.json of {older.name}"
    if way == "missing shard":
        file.unlink()
        return file.name
    content = bytearray(file.read_bytes())
    if way == "bit flip":
        # Any file, the small ones too.
        file = sorted(newest.iterdir())[chance.randrange(len(list(newest.iterdir())))]
        content = bytearray(file.read_bytes())
        place = chance.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8
        told = f"{file.name}, bit {place}"
    elif way == "truncation":
        del content[chance.randrange(len(content)) :]
        told = f"{file.name} to {len(content)} bytes"
    else:
        # Of the last half, which holds numbers: a block that was zero already would be no damage.
        start = chance.randrange(len(content) // 2, len(content))
        while not any(content[start : start + 64]):
            start -= 64
        content[start : start + 64] = bytes(len(content[start : start + 64]))
        told = f"{file.name}, 64 bytes at {start}"
    file.write_bytes(content)
    return told
