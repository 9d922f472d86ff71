"""Who may write to a run's folder: one process, by a lock of the system and by a number that only grows.

The lock keeps a second writer out as long as the first lives. Where locks do not reach (some network file systems) or
an owner was cut off and is replaced, the number fences it: each new owner takes the next one and writes it down, and an
owner that finds another number than its own publishes nothing any more.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from maquette.durable import write_text
from maquette.errors import MaquetteError
from maquette.progress import say

LOCK, EPOCH = ".lock", ".epoch"
_LOOK_AGAIN = 0.1


class Ownership:
    """Held from construction to :meth:`release`, or until the process dies, however it dies.

    Args:
        folder: of the run; made where there is none.
        patience: seconds to wait for the owner before, e.g. workers that still save after their launcher was killed.

    Attributes:
        epoch: this owner's number; checkpoints are marked with it.

    Raises:
        MaquetteError: another process has the folder.
    """

    def __init__(self, folder: Path, patience: float = 0.0) -> None:
        self.folder = folder
        self._file: IO[str] | None = self._locked(time.monotonic() + patience)
        self.epoch = self._written() + 1
        write_text(folder / EPOCH, f"{self.epoch}\n")

    def check(self) -> None:
        """Before something becomes visible to others.

        Raises:
            MaquetteError: another process has taken the folder over.
        """
        if self._written() != self.epoch:
            raise MaquetteError(
                f"another process has taken over '{self.folder}' (owner {self._written()}, this is {self.epoch}); "
                "nothing more is written; end this one"
            )

    def release(self) -> None:
        """Let go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _locked(self, until: float) -> IO[str]:
        told = False
        while True:
            file = self._opened()
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_there(file):
                    return file
                file.close()
                continue
            except BlockingIOError:
                file.close()
                if time.monotonic() >= until:
                    raise MaquetteError(
                        f"another process is writing to '{self.folder}'; stop it or choose another folder"
                    ) from None
            except OSError:  # this file system has no locks: the number alone must do
                return file
            if not told:
                say(f"waiting until the process that writes to '{self.folder}' has ended")
                told = True
            time.sleep(_LOOK_AGAIN)

    def _opened(self) -> IO[str]:
        # Made anew each time: an owner may discard the folder, also between these two lines.
        for _ in range(10):
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                return (self.folder / LOCK).open("w")
        raise MaquetteError(f"'{self.folder}' is removed again and again; choose another folder")

    def _is_there(self, file: IO[str]) -> bool:
        """Whether the folder still has this very file; a lock on one that was removed keeps nobody out."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(file.fileno()), (self.folder / LOCK).stat())
        return False

    def _written(self) -> int:
        try:
            return int((self.folder / EPOCH).read_text())
        except (OSError, ValueError):
            return 0
