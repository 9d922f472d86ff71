"""The files of a service: in a folder, and by a URL in an object store that several servers share."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maquette.durable import whole_file
from maquette.errors import MaquetteError

log = logging.getLogger("maquette.service")


class StoreAway(MaquetteError):
    """The object store does not answer. What it said itself may name what is nobody's business: it is in the log."""


class _Absent(Exception):
    """The object store has no such file."""


class Files:
    """Files by keys, such as "files/TASK/1/model.glb".

    Each is written once, under a key that nobody is told before it is whole. So a copy in the folder is as good as what
    the object store has, and one that was only half sent is never seen.

    Args:
        folder: where keys are paths.
        url: of fsspec, such as "s3://bucket/maquette"; "" for the folder alone.

    Raises:
        MaquetteError: nothing can read such a URL.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self._remote: Any = None
        self._root = ""
        if url:
            self._remote, self._root = opened(url)

    @property
    def remote(self) -> bool:
        """Whether files are sent to an object store."""
        return self._remote is not None

    def path(self, key: str) -> Path:
        """Where a file is on this machine, if it is."""
        return self.folder / key

    def key(self, path: Path) -> str:
        """The key of a file in the folder."""
        return path.relative_to(self.folder).as_posix()

    def local(self, key: str) -> Path | None:
        """A file on this machine, fetched where only the object store has it; None where nobody has.

        Raises:
            StoreAway: the object store does not answer.
        """
        path = self.path(key)
        if path.is_file() or self._remote is None:
            return path if path.is_file() else None
        try:
            with whole_file(path) as temporary:
                self._fetch(key, temporary)
        except _Absent:
            return None
        return path

    def keep(self, keys: Iterable[str]) -> None:
        """Sends files that were written here to the object store, where there is one.

        Raises:
            StoreAway: it does not take them.
        """
        if self._remote is None:
            return
        for key in keys:
            try:
                self._remote.makedirs(f"{self._root}/{key}".rpartition("/")[0], exist_ok=True)
                self._remote.put_file(str(self.path(key)), f"{self._root}/{key}")
            except Exception as error:  # each file system has errors of its own
                raise away(f"'{key}' was not written", error) from error

    def remove(self, prefix: str) -> None:
        """Forgets all files below a key.

        Raises:
            StoreAway: the object store does not answer.
        """
        shutil.rmtree(self.path(prefix), ignore_errors=True)
        if self._remote is not None:
            try:
                self._remote.rm(f"{self._root}/{prefix}", recursive=True)
            except FileNotFoundError:
                pass  # nothing was written yet
            except Exception as error:  # as above
                raise away(f"'{prefix}' was not removed", error) from error

    def sweep(self, hours: float) -> None:
        """Forgets uploads that are so old, and copies of what the object store has."""
        oldest = time.time() - 3600 * hours
        for pattern in ("uploads/*/*", *(("files/*",) if self.remote else ())):
            for path in self.folder.glob(pattern):
                if path.stat().st_mtime < oldest:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _fetch(self, key: str, place: Path) -> None:
        try:
            self._remote.get_file(f"{self._root}/{key}", str(place))
        except FileNotFoundError as error:
            raise _Absent from error
        except Exception as error:  # as above
            raise away(f"'{key}' was not read", error) from error


def away(what: str, error: Exception) -> StoreAway:
    """What callers are told where the object store fails; the log is told why."""
    log.error("the object store failed: %s: %s: %s", what, type(error).__name__, " ".join(str(error).split()))
    return StoreAway("the store of files does not answer; try again in a moment")


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        MaquetteError: it cannot be used.
    """
    try:
        import fsspec

        system, root = fsspec.url_to_fs(url)
        system.makedirs(root, exist_ok=True)
    except Exception as error:  # each file system has errors of its own
        raise MaquetteError(
            f"files '{url.rsplit('@', maxsplit=1)[-1]}' cannot be used: {error}; "
            "object stores need: pip install 'maquette-serve[object-store]'"
        ) from error
    return system, root.rstrip("/")
