"""The folder that keeps files of remote shard folders: shared by processes, bounded, least recently used goes first."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cache:
    """Where files of remote folders are kept, and how much of the disk they may take.

    Files are named after their content: folders share what they have in common. The bound holds for what is
    not in use; a file that any process of this machine has mapped stays.
    """

    folder: Path
    cache_gb: float = 100.0

    @property
    def most_bytes(self) -> int:
        """The bound in bytes."""
        return int(self.cache_gb * 1e9)


def evict(cache: Cache, keep: Path | None = None) -> list[str]:
    """Removes the files that were used longest ago until the cache is within its bound; their names.

    What a process has open or mapped stays, and so does `keep`.
    """
    files = []
    for path in cache.folder.glob("[!.]*"):
        try:
            files.append((path.stat().st_mtime_ns, path.name, path.stat().st_size, path))
        except FileNotFoundError:
            continue  # another process removed it meanwhile
    excess = sum(size for _, _, size, _ in files) - cache.most_bytes
    removed = []
    for _, name, size, path in sorted(files):
        if excess <= 0:
            break
        if path != keep and _remove_unused(path):
            removed.append(name)
            excess -= size
    return removed


def _remove_unused(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:
        return False  # in use, or gone already
    return True
