"""Strangers' files, parsed in processes of their own that are kept warm: what they do to a parser stays there."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import BoundedSemaphore, Lock

from maquette.errors import MaquetteError
from maquette_data3d.ingest.child_process import started
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.reading_child import ERROR, SCENE
from maquette_data3d.ingest.scene import Scene
from maquette_data3d.ingest.scene_file import read_scene

_START_SECONDS = 300.0
_PATIENCE = 4.0  # times the seconds of the processor that a file may take: the machine may be busy


@dataclass(frozen=True)
class Confinement:
    """What reading one file may cost.

    Attributes:
        memory_mb: allocated for it.
        seconds: of the processor.
        file_mb: of what was read, as it is handed over.
    """

    memory_mb: int = 4096
    seconds: int = 120
    file_mb: int = 4096


class _Reader:
    """One warm process, which reads one file at a time."""

    def __init__(self) -> None:
        self.process, self._leash = started("maquette_data3d.ingest.reading_child", subprocess.DEVNULL)
        self._fresh = True

    def ask(self, job: dict[str, object], seconds: float) -> int | None:
        """The exit code of the fork that had the job; None when the time is over.

        Raises:
            MaquetteError: the process itself has gone.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()
            end = time.monotonic() + seconds + (_START_SECONDS if self._fresh else 0)
            self._fresh = False
            while not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                if time.monotonic() >= end:
                    return None
            if line := self.process.stdout.readline():
                return int(line)
        except (OSError, ValueError):
            pass
        raise MaquetteError("crashed: the process that reads files has ended; is there enough memory?")

    def close(self) -> None:
        """Ends it; a fork that is still reading dies with it."""
        self.process.kill()
        self.process.wait()
        os.close(self._leash)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


class Readers:
    """Warm processes that read files for the threads of this one.

    Args:
        most: processes at a time; whoever comes when all are busy waits.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._owner, self._idle, self._lock = os.getpid(), list[_Reader](), Lock()
        self._places = BoundedSemaphore(self._most)

    def read(self, path: Path, limits: ReadLimits, bounds: Confinement) -> Scene:
        """As `reading.read`, in another process; also "crashed: ..." and "deadline: ..."."""
        if self._owner != os.getpid():
            self._begin()  # after a fork: the processes are the parent's
        with self._places, tempfile.TemporaryDirectory(prefix="maquette-") as folder:
            with self._lock:
                reader = self._idle.pop() if self._idle else None
            reader = reader or _Reader()
            job = {"path": str(path.resolve()), "folder": folder, "limits": asdict(limits), **asdict(bounds)}
            code: int | None = None
            try:
                code = reader.ask(job, _PATIENCE * bounds.seconds)
            finally:
                if code is None:
                    reader.close()
                else:
                    with self._lock:
                        self._idle.append(reader)
            return _result(Path(folder), code, bounds)

    def close(self) -> None:
        """Ends all that are idle."""
        if self._owner == os.getpid():
            with self._lock:
                idle, self._idle = self._idle, []
            for reader in idle:
                reader.close()


def _result(folder: Path, code: int | None, bounds: Confinement) -> Scene:
    if code is None or code == -signal.SIGXCPU:
        raise MaquetteError(f"deadline: parsing took longer than {bounds.seconds} s")
    if _plain(folder / ERROR):
        with (folder / ERROR).open(encoding="utf-8", errors="replace") as file:
            raise MaquetteError(file.read(1000))
    if code != 0:
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        raise MaquetteError(f"crashed: the process that parsed it ended with {how}")
    if not _plain(folder / SCENE):
        raise MaquetteError("crashed: the process that parsed it has left no scene")
    return read_scene(folder / SCENE)


def _plain(path: Path) -> bool:
    """Whether it is a file of its own: a link leads elsewhere, and a pipe is waited for in vain."""
    return path.is_file() and not path.is_symlink()


READERS = Readers(most=max(1, min(4, os.cpu_count() or 1)))
"""Of this process."""
atexit.register(READERS.close)
