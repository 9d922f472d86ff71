"""Which checkpoints a folder holds, which are set aside, and which are removed."""

from __future__ import annotations

import fcntl
import math
import shutil
from pathlib import Path
from typing import IO

from maquette.checkpoint.manifest import STATE_FILE
from maquette.durable import fsync
from maquette.json_text import read_json


def paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob("step_*"), key=_step, reverse=True)


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step_{step:08d}"


def quarantine(folder: Path, newest_good: Path) -> list[Path]:
    """Set aside what is newer than ``newest_good``, so that the run can write those steps again."""
    moved = []
    for path in paths(folder):
        if _step(path) > _step(newest_good):
            shutil.rmtree(aside := path.with_name(f"damaged_{path.name}"), ignore_errors=True)
            moved.append(path.rename(aside))
    if moved:
        fsync(folder)
    return moved


def purge(folder: Path, keep: int, keep_best: int = 0) -> None:
    """Remove all but the ``keep`` newest and the ``keep_best`` with the lowest score."""
    found = paths(folder)
    scored = [(value, path) for path in found if (value := score(path)) is not None]
    # sorted() is stable and ``found`` starts with the newest: of equal ones the newest stay.
    best = [path for _, path in sorted(scored, key=lambda pair: pair[0])[:keep_best]]
    for path in found[keep:]:
        if path not in best:
            # Out of sight first: a kill in the middle must not leave half of it where checkpoints are looked for.
            shutil.rmtree(path.rename(path.with_name(f".{path.name}.purged")))


def score(path: Path) -> float | None:
    """The score that a checkpoint was saved with; None where there is none or it cannot be read."""
    try:
        value = read_json(path / STATE_FILE)["score"]
        return None if value is None or not math.isfinite(value) else float(value)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class WriterLock:
    """Held while a process writes checkpoints to a folder; the system frees it when the process dies, however it dies.

    It decides who may clean up, not who may write (a run's folder has its own lock for that).
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file: IO[str] | None = (folder / ".writer").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            self._file = None

    def remove_leftovers(self) -> None:
        """Remove what killed writers left behind; nothing, where another writer holds the lock."""
        if self._file is not None:
            for path in self.folder.glob(".step_*"):
                shutil.rmtree(path, ignore_errors=True)

    def release(self) -> None:
        """Let go."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _step(path: Path) -> int:
    number = path.name.removeprefix("step_")
    return int(number) if number.isdecimal() else -1
