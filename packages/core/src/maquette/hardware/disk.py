"""How full a file system is, what kind it is, and how fast it takes and gives a file."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from maquette.hardware.kernel_files import lines

NETWORKED = ("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "ceph", "fuse", "gpfs", "9p", "virtiofs")


@dataclass(frozen=True)
class DiskReading:
    """A file system: bytes, entries for files, its type (``ext4``, ``tmpfs``, ...; empty if not known), where it is."""

    total: int
    free: int
    files: int
    files_free: int
    kind: str
    mount: str

    @property
    def percent(self) -> float:
        """How full it is for an ordinary user."""
        return 100 * (1 - self.free / self.total) if self.total else 100.0

    @property
    def networked(self) -> bool:
        """Whether other machines may see it."""
        return self.kind.split(".")[0] in NETWORKED


@dataclass(frozen=True)
class WriteReading:
    """Seconds that it took to write a file, to flush it and to read it back, and whether it came back as it was."""

    size: int
    write: float
    fsync: float
    read: float
    equal: bool


def read(path: Path, proc: Path = Path("/proc")) -> DiskReading:
    """The file system that ``path`` is on, or would be.

    Raises:
        OSError: it does not answer.
    """
    there = existing(path)
    found = os.statvfs(there)
    # Blocks that only root may use are no room for anybody else: they count as neither free nor part of the whole.
    usable = found.f_blocks - found.f_bfree + found.f_bavail
    mount, kind = _mount(there.resolve(), proc)
    return DiskReading(
        usable * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail, kind, mount
    )


def existing(path: Path) -> Path:
    """The nearest folder of ``path`` that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def write_and_read(folder: Path, size: int) -> WriteReading:
    """Write ``size`` bytes to a new file in ``folder``, flush it to the disk, read it back, remove it.

    The system's copy in memory is dropped before reading, where the file system lets us.

    Raises:
        OSError: it cannot be written, e.g. for want of room or permission.
    """
    data = os.urandom(min(size, 2**20)) * max(size // 2**20, 1)
    begin = time.perf_counter()
    descriptor, name = tempfile.mkstemp(prefix=".maquette_write_", dir=folder)  # machines may share the folder
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            written = 0
            while written < len(data):
                written += file.write(memoryview(data)[written:])
            flushing = time.perf_counter()
            os.fsync(file.fileno())
            flushed = time.perf_counter()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        reading = time.perf_counter()
        equal = path.read_bytes() == data
        return WriteReading(len(data), flushing - begin, flushed - flushing, time.perf_counter() - reading, equal)
    finally:
        path.unlink(missing_ok=True)


def _mount(path: Path, proc: Path) -> tuple[str, str]:
    """(mount point, type) of the file system that an existing path is on."""
    best = ("", "")
    for line in lines(proc / "mounts"):
        _, mount, kind, *_ = line.split()
        mount = mount.replace("\\040", " ")
        if path.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best
