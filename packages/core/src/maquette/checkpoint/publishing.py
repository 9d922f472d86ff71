"""From tensors to a visible checkpoint: written aside, checked, renamed when all is on the disk."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maquette.checkpoint import manifest
from maquette.checkpoint.index import INDEX_FILE
from maquette.checkpoint.manifest import MANIFEST_FILE, STATE_FILE
from maquette.checkpoint.planning import Files, Share, specs
from maquette.checkpoint.processes import Processes
from maquette.checkpoint.retention import step_folder
from maquette.checkpoint.tensor_files import Written, write_bytes, write_tensors
from maquette.durable import DISK_FULL, fsync
from maquette.errors import MaquetteError
from maquette.ownership import Ownership

SPARE_BYTES = 2**20
"""Free space asked for beyond the tensors: headers, index, state."""


@dataclass(frozen=True)
class Publication:
    """One checkpoint on its way to the disk. All processes share the file system.

    ``state`` is the text of ``state.json``; it counts on rank 0, as does the ``owner`` of the run's folder.
    """

    folder: Path
    step: int
    share: Share
    files: Files
    state: str
    owner: Ownership | None = None

    def publish(self, processes: Processes, tidy: Callable[[], None]) -> None:
        """Write it. All processes call this together, also from threads, and all learn of any failure.

        Args:
            processes: with a group that nobody else uses meanwhile.
            tidy: called on rank 0 after it is visible; removes what is no longer needed.

        Raises:
            MaquetteError: it could not be written; why, and that nothing is visible of it.
        """
        temporary = Path(processes.gather(lambda: None, lambda _: str(self._begin())))
        try:
            processes.gather(
                lambda: self._write(temporary),
                lambda written: self._finish(temporary, [file for files in written for file in files], tidy),
            )
        finally:
            if processes.rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)

    @property
    def path(self) -> Path:
        """Where it will be."""
        return step_folder(self.folder, self.step)

    def _begin(self) -> Path:
        with self._explained(self.folder):
            temporary = self.folder / f".{self.path.name}.{secrets.token_hex(4)}"
            temporary.mkdir(parents=True)
            free, needed = shutil.disk_usage(temporary).free, self.share.total_bytes + SPARE_BYTES
            if free < needed:
                temporary.rmdir()
                raise MaquetteError(
                    f"{self._failed}: the disk of '{self.folder}' has {_megabytes(free)} free "
                    f"and {_megabytes(needed)} are needed; {_UNTOUCHED}"
                )
        return temporary

    def _write(self, temporary: Path) -> list[Written]:
        written = []
        for file, tensors in self.files.items():
            with self._explained(temporary / file):
                written.append(write_tensors(temporary / file, specs(tensors), tensors.__getitem__))
        # Read back before the older ones go: what was meant is compared with what the disk holds.
        with self._explained(temporary):
            manifest.check(temporary, written, from_disk=True)
        return written

    def _finish(self, temporary: Path, written: list[Written], tidy: Callable[[], None]) -> None:
        with self._explained(temporary):
            written.append(write_bytes(temporary / INDEX_FILE, self.share.index.encode()))
            written.append(write_bytes(temporary / STATE_FILE, self.state.encode()))
            epoch = self.owner.epoch if self.owner else 0
            write_bytes(temporary / MANIFEST_FILE, manifest.encode(self.step, written, epoch))
            fsync(temporary)
            if self.owner:
                self.owner.check()
            os.rename(temporary, self.path)
            fsync(self.folder)
        tidy()

    @property
    def _failed(self) -> str:
        return f"the checkpoint of step {self.step} was not saved"

    def _explained(self, path: Path) -> _Explained:
        return _Explained(self, path)


class _Explained:
    """Turns the system's errors into one line that says what, where, and how much room there is."""

    def __init__(self, publication: Publication, path: Path) -> None:
        self.publication, self.path = publication, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        reason = error.strerror or str(error)
        if error.errno in DISK_FULL:
            free = shutil.disk_usage(self.publication.folder).free
            reason = f"disk full ({reason}; {_megabytes(free)} free)"
        failed = self.publication._failed
        raise MaquetteError(f"{failed}: {reason} while writing '{self.path}'; {_UNTOUCHED}") from None


_UNTOUCHED = "earlier checkpoints are untouched"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
