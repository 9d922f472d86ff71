"""Places in a worker where a driver can have it killed, or held up, by writing a file.

``control/kill`` holds "PHASE RANK": the rank kills itself when its next save comes to the phase. ``control/hold`` holds
"PLACE SECONDS": all ranks stay there so long, once, and tell that they are there in ``control/at_<rank>``.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maquette.checkpoint import publishing, tensor_files
from maquette.engine.step_engine import StepEngine

PHASES = (
    "begun",
    "half a file",
    "tensors",
    "read back",
    "index.json",
    "state.json",
    "manifest.json",
    "before the rename",
    "after the rename",
    "published",
    "purge",
)
"""Of a save, in order; all but those of the tensors are rank 0's."""

OF_ALL_RANKS = ("half a file", "tensors", "read back")
HOLDS = ("start", "data", "step", "validation", "save")
"""Where ranks can be held: before the first step, while they wait for data, in a step (the first may compile), ..."""

_armed: list[tuple[Path, int]] = []
"""The driver's folder and this rank, in a worker."""


def reach(phase: str) -> None:
    """This rank's save has come to a phase: its end, if the driver wants it so."""
    if not _armed:
        return
    ((control, rank),) = _armed
    order = control / "kill"
    try:
        wanted, _, who = order.read_text().rpartition(" ")
    except FileNotFoundError:
        return
    if wanted == phase and int(who) == rank:
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def pause(place: str) -> None:
    """Stay for a while, if the driver wants it so; it may be a signal that comes meanwhile."""
    if not _armed:
        return
    ((control, rank),) = _armed
    try:
        wanted, seconds = (control / "hold").read_text().split()
    except (FileNotFoundError, ValueError):
        return
    here = control / f"at_{rank}"
    if wanted == place and not here.exists():
        here.write_text(place)
        until = time.monotonic() + float(seconds)
        while time.monotonic() < until:
            time.sleep(0.01)


def arm(control: Path, rank: int) -> None:
    """Let this process look for the driver's orders; each process once."""
    _armed.append((control, rank))
    publishing.write_tensors = _after(publishing.write_tensors, lambda *_: reach("tensors"))
    publishing.write_bytes = _after(publishing.write_bytes, lambda path, *_: reach(path.name))
    publishing.manifest.check = _before(publishing.manifest.check, lambda *_: reach("read back"))
    publishing.Publication._begin = _after(publishing.Publication._begin, _begun)
    publishing.Publication._finish = _finishing(publishing.Publication._finish)
    publishing.os = _Watched(os, rename=_around_the_rename)
    tensor_files.os = _Watched(os, write=_half)
    StepEngine._pass = _before(StepEngine._pass, lambda *_: pause("step"))


def _begun(*_: Any) -> None:
    reach("begun")
    pause("save")


def _finishing(original: Callable[..., None]) -> Callable[..., None]:
    def finish(self: Any, temporary: Path, written: Any, tidy: Callable[[], None]) -> None:
        def watched_tidy() -> None:
            reach("published")
            remove, shutil.rmtree = shutil.rmtree, _before(shutil.rmtree, lambda path, *_: _purged(path))
            try:
                tidy()
            finally:
                shutil.rmtree = remove

        original(self, temporary, written, watched_tidy)

    return finish


def _purged(path: Path) -> None:
    if str(path).endswith(".purged"):
        reach("purge")


def _around_the_rename(*arguments: Any) -> None:
    reach("before the rename")
    os.rename(*arguments)
    reach("after the rename")


def _half(descriptor: int, piece: Any) -> int:
    written = os.write(descriptor, piece[: max(len(piece) // 2, 1)])
    reach("half a file")
    return written


class _Watched:
    """The module ``os`` with some functions replaced, for one module that uses it."""

    def __init__(self, module: Any, **replaced: Callable[..., Any]) -> None:
        self._module = module
        for name, function in replaced.items():
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _before(original: Callable[..., Any], told: Callable[..., None]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        told(*arguments)
        return original(*arguments, **named)

    return call


def _after(original: Callable[..., Any], told: Callable[..., None]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        told(*arguments)
        return result

    return call
