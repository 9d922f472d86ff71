"""Room, and whether a file that is written comes back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maquette.accelerators import GIB
from maquette.doctor.finding import Action, Finding, Status, judge, not_applicable, unknown
from maquette.doctor.machine import Machine
from maquette.hardware import disk

MIB = 2**20


@dataclass
class DiskConfig:
    """Limits of file systems."""

    full_percent: float = 95.0
    """How full is critical; five points before that is a warning."""
    checkpoints: int = 2
    """How many checkpoints must still fit."""
    write_mib: int = 64
    """What is written, flushed and read back; 1 in a quick look."""
    least_mib_s: float = 20.0
    """The speed, with flushing, below which saving would hold training up."""
    shared_memory_gib: float = 1.0
    """What loaders of several processes need of /dev/shm."""
    temporary_gib: float = 1.0
    """What compilers need for temporary files."""


class Disks:
    """The file systems of the run, of temporary files and of shared memory: room, and whether files come back."""

    together = False

    def __init__(self, config: DiskConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of this machine."""
        temporary = Path(tempfile.gettempdir())
        for folder in dict.fromkeys((machine.folder.absolute(), temporary)):
            yield from self._room(folder, machine)
        yield self._checkpoints(machine)
        yield self._written(machine)
        yield self._temporary(temporary, machine)
        yield self._shared(machine)

    def _room(self, folder: Path, machine: Machine) -> Iterator[Finding]:
        try:
            found = disk.read(folder, machine.host.proc)
        except OSError as error:
            yield unknown("disk.space", f"the file system does not answer: {error}", str(folder))
            return
        limit = self.config.full_percent
        room = f"{found.free / GIB:.1f} GiB are free in {found.mount}"
        yield judge("disk.space", found.percent, subject=str(folder), unit="%", warn=limit - 5, critical=limit,
                    evidence=room, action=Action.FREE_SPACE)  # fmt: skip
        if found.files:  # some file systems count no entries
            used = 100 * (1 - found.files_free / found.files)
            yield judge("disk.files", used, subject=str(folder), unit="%", warn=limit - 5, critical=limit,
                        evidence=f"{found.files_free} more files fit into {found.mount}",
                        action=Action.FREE_SPACE)  # fmt: skip

    def _checkpoints(self, machine: Machine) -> Finding:
        size = machine.checkpoint_bytes
        if size is None:
            return not_applicable("disk.checkpoints", "no run, or one whose checkpoints have no known size yet")
        try:
            free = disk.read(machine.folder).free
        except OSError as error:
            return unknown("disk.checkpoints", f"the file system does not answer: {error}", str(machine.folder))
        evidence = f"{free / GIB:.1f} GiB are free and a checkpoint takes {size / GIB:.2f} GiB"
        return judge("disk.checkpoints", free / size if size else 1e9, subject=str(machine.folder), unit="checkpoints",
                     critical=self.config.checkpoints, at_least=True, evidence=evidence,
                     action=Action.FREE_SPACE)  # fmt: skip

    def _written(self, machine: Machine) -> Finding:
        folder = disk.existing(machine.folder)
        try:
            found = disk.write_and_read(folder, (1 if machine.quick else self.config.write_mib) * MIB)
        except OSError as error:
            evidence = f"a file cannot be written: {error.strerror or error}"
            return Finding("disk.write", Status.CRITICAL, str(folder), evidence=evidence, action=Action.CONFIGURE)
        if not found.equal:
            evidence = "a file that was written did not come back as it was"
            return Finding("disk.write", Status.CRITICAL, str(folder), evidence=evidence, action=Action.SERVICE)
        speed = found.size / MIB / max(found.write + found.fsync, 1e-9)
        evidence = f"{found.size // MIB} MiB: {1000 * (found.write + found.fsync):.1f} ms to write and flush, " \
                   f"{1000 * found.read:.1f} ms to read back"  # fmt: skip
        # A single MiB tells of the time of one flush, not of speed.
        warn = None if machine.quick else self.config.least_mib_s
        return judge("disk.write", speed, subject=str(folder), unit="MiB/s", warn=warn, at_least=True,
                     evidence=evidence, action=Action.SERVICE)  # fmt: skip

    def _temporary(self, folder: Path, machine: Machine) -> Finding:
        try:
            found = disk.read(folder, machine.host.proc)
        except OSError as error:
            return unknown("disk.tmpdir", f"the file system does not answer: {error}", str(folder))
        reasons = {
            "it is on a network, where compilers of many machines lock each other out": found.networked,
            f"only {found.free / GIB:.2f} GiB are free": found.free < self.config.temporary_gib * GIB,
            "nothing in it may be executed, as compiled kernels must": bool(os.statvfs(folder).f_flag & os.ST_NOEXEC),
            "it may not be written to": not os.access(folder, os.W_OK),
        }
        said = "; ".join(reason for reason, holds in reasons.items() if holds)
        status = Status.WARN if said else Status.PASS
        advice = f"{said}; set TMPDIR to a local disk" if said else f"{found.kind or 'unknown kind'}, local"
        action = Action.CONFIGURE if said else Action.NONE
        return Finding("disk.tmpdir", status, str(folder), found.kind, "local, writable", advice, action)

    def _shared(self, machine: Machine) -> Finding:
        folder = Path("/dev/shm")
        try:
            found = disk.read(folder, machine.host.proc)
        except OSError as error:
            return unknown("disk.shm", f"the file system does not answer: {error}", str(folder))
        advice = "loaders of several processes hand batches over in it; give the container more (--shm-size)"
        return judge("disk.shm", found.free / GIB, subject=str(folder), unit="GiB",
                     warn=self.config.shared_memory_gib, at_least=True, advice=advice,
                     action=Action.CONFIGURE)  # fmt: skip
