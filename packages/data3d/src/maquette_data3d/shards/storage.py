"""Where a shard folder is: a local folder, or any URL that fsspec knows, through a bounded local cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from maquette.durable import fsync
from maquette.errors import MaquetteError
from maquette_data3d.shards.cache import Cache, evict
from maquette_data3d.shards.format import MARKER, ShardFile, description

_ATTEMPTS, _PAUSE_S = 3, 0.5
_CHUNK = 4 * 2**20
_LOCAL = ("file://", "local://")


class Folder(Protocol):
    """A place that shards are read from; ``str()`` is what messages call it."""

    most_mapped: int | None
    """Bytes that a reader should have mapped at once at most."""

    def name(self, file: str) -> str:
        """A file as messages call it."""

    def marker(self) -> bytes:
        """The content of shards.json."""

    def open(self, file: ShardFile | str) -> BinaryIO:
        """A file of this machine with that content; what is open, or mapped from it, is not evicted."""

    def sizes(self, files: Iterable[str]) -> dict[str, int]:
        """Sizes in bytes of those files that are there."""


def open_folder(url: str | Path, cache: Cache | str | Path | None = None) -> Folder:
    """The folder at a path or a URL.

    Args:
        cache: for remote ones; ``None`` takes the folder that the environment variable MAQUETTE_CACHE names,
            else ``~/.cache/maquette``.

    Raises:
        MaquetteError: nothing can read such a URL.
    """
    place = local_path(url)
    if place is not None:
        return LocalFolder(place)
    if cache is None:
        cache = os.environ.get("MAQUETTE_CACHE") or Path.home() / ".cache" / "maquette"
    return RemoteFolder(str(url), cache if isinstance(cache, Cache) else Cache(Path(cache)))


def local_path(url: str | Path) -> Path | None:
    """The path that a path or URL means on this machine; None for a remote one."""
    text = str(url)
    for prefix in _LOCAL:
        if text.startswith(prefix):
            return Path(text.removeprefix(prefix))
    return None if "://" in text else Path(url)


class LocalFolder:
    """A folder of this machine."""

    most_mapped: int | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def name(self, file: str) -> str:
        """A file as messages call it."""
        return str(self.folder / file)

    def marker(self) -> bytes:
        """The content of shards.json.

        Raises:
            MaquetteError: there is none.
        """
        marker = self.folder / MARKER
        if marker.is_file():
            return marker.read_bytes()
        if not self.folder.is_dir():
            raise MaquetteError(f"'{self.folder}' does not exist")
        unfinished = (self.folder / ".work").is_dir()
        what = "is an unfinished build; run it again to go on" if unfinished else "holds no shards"
        raise MaquetteError(f"'{self.folder}' {what}")

    def open(self, file: ShardFile | str) -> BinaryIO:
        """A file of the folder."""
        return (self.folder / (file if isinstance(file, str) else file.file)).open("rb")

    def sizes(self, files: Iterable[str]) -> dict[str, int]:
        """Sizes in bytes of those files that are there."""
        return {file: (self.folder / file).stat().st_size for file in files if (self.folder / file).is_file()}


class RemoteFolder:
    """A folder behind a URL; files are fetched whole, checked, and kept in a cache that processes share."""

    def __init__(self, url: str, cache: Cache) -> None:
        self.url, self.cache = url.rstrip("/"), cache
        self.most_mapped: int | None = cache.most_bytes // 2
        self._connect()

    def __str__(self) -> str:
        return self.url

    def name(self, file: str) -> str:
        """A file as messages call it."""
        return f"{self.url}/{file}"

    def marker(self) -> bytes:
        """The content of shards.json, always fetched anew.

        Raises:
            MaquetteError: there is none, or it cannot be reached.
        """
        system, root = self._connect()
        with _reaching(self.name(MARKER)):
            return bytes(system.cat_file(f"{root}/{MARKER}"))

    def open(self, file: ShardFile | str) -> BinaryIO:
        """A cached file, fetched first where it is not there; its lock keeps it there while it is in use.

        Raises:
            MaquetteError: it is missing, cannot be reached, or is not what shards.json says.
        """
        path = self.cache.folder / self._key(file)
        while True:
            try:
                handle = path.open("rb")
            except FileNotFoundError:
                self._fetch(file, path)
                continue
            if (
                isinstance(file, ShardFile) and os.fstat(handle.fileno()).st_size != file.bytes
            ):  # a crash of the machine left a part
                handle.close()
                path.unlink(missing_ok=True)
                continue
            # The lock belongs to the open file: a mapping made from it holds it until the last view is gone.
            fcntl.flock(handle, fcntl.LOCK_SH)
            os.utime(handle.fileno())
            return handle

    def sizes(self, files: Iterable[str]) -> dict[str, int]:
        """Sizes in bytes of those files that are there, by one listing."""
        system, root = self._connect()
        with _reaching(self.url):
            system.invalidate_cache()
            try:
                found = system.ls(root, detail=True)
            except FileNotFoundError:  # an object store has no folders, only names of objects
                found = []
        listed = {entry["name"].rpartition("/")[2]: entry["size"] for entry in found}
        return {file: listed[file] for file in files if file in listed}

    def _connect(self) -> tuple[Any, str]:
        # Asked for each time: fsspec hands out the same connection, and a new one after a fork.
        import fsspec

        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise MaquetteError(f"'{self.url}' cannot be read: {error}") from None
        return system, root.rstrip("/")

    def _key(self, file: ShardFile | str) -> str:
        """Name in the cache: the content where it is known, else the place and what the server says of it."""
        if isinstance(file, ShardFile):
            return file.sha256 + Path(file.file).suffix
        system, root = self._connect()
        with _reaching(self.name(file)):
            told = f"{self.name(file)} {system.ukey(f'{root}/{file}')}"
        return hashlib.sha256(told.encode()).hexdigest() + Path(file).suffix

    def _fetch(self, file: ShardFile | str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / ".lock").open("a") as bound, (path.parent / f".{path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of many processes that want it, one fetches it
            if path.is_file():
                return
            for left in path.parent.glob(f".{path.name}.*[0-9]"):
                left.unlink(missing_ok=True)  # of a process that was killed: whoever fetches it holds the lock
            temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
            try:
                self._download(file, temporary)
                fsync(temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            fcntl.flock(bound, fcntl.LOCK_EX)
            evict(self.cache, keep=path)
        # The lock's file stays: removed, it would let two processes lock two files of one name.

    def _download(self, file: ShardFile | str, target: Path) -> None:
        system, root = self._connect()
        name = file if isinstance(file, str) else file.file
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with _reaching(self.name(name)):
                    sha256, size = _copy(system, f"{root}/{name}", target)
                if isinstance(file, ShardFile) and (size, sha256) != (file.bytes, file.sha256):
                    raise MaquetteError(
                        f"'{self.name(name)}' is not what shards.json says; upload it again or build the shards again"
                    )
                return
            except MaquetteError:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_S * attempt)


def upload(folder: str | Path, url: str) -> dict[str, int]:
    """Copies a complete folder of shards to a URL, shards.json last; files that are there already are not sent again.

    Returns:
        How many "files" and "bytes" were sent.

    Raises:
        MaquetteError: the folder is not complete, or the place cannot be written to.
    """
    source = LocalFolder(Path(folder))
    text = source.marker()
    about = description(text, source.name(MARKER))
    kept = {plain["file"]: plain for plain in [*about["shards"], *filter(None, [about.get("index")])]}
    sizes = source.sizes(kept)
    for file, plain in kept.items():
        if sizes.get(file) != plain["bytes"]:
            raise MaquetteError(f"'{source.name(file)}' is missing or has a wrong size; build the shards again")
    target = RemoteFolder(url, Cache(Path()))
    system, root = target._connect()
    files = sorted(path for path in source.folder.iterdir() if path.is_file() and not path.name.startswith("."))
    with _reaching(target.url):
        system.makedirs(root, exist_ok=True)
        found = system.exists(f"{root}/{MARKER}") and system.cat_file(f"{root}/{MARKER}")
        if found and found != text:
            system.rm_file(f"{root}/{MARKER}")  # a folder that is changing is not complete
    # What the same marker declares, or what has its content's hash in its name, is the same at the same size.
    known = {file for file, plain in kept.items() if found == text or plain["sha256"][:12] in file}
    known |= {MARKER} if found == text else set()
    there = target.sizes(known)
    new = [path for path in files if there.get(path.name) != path.stat().st_size]
    for path in sorted(new, key=lambda path: path.name == MARKER):
        with _reaching(target.name(path.name)):
            system.put_file(str(path), f"{root}/{path.name}")
            if system.info(f"{root}/{path.name}")["size"] != path.stat().st_size:
                raise MaquetteError(f"'{target.name(path.name)}' did not arrive whole; upload again")
    return {"files": len(new), "bytes": sum(path.stat().st_size for path in new)}


def _copy(system: Any, source: str, target: Path) -> tuple[str, int]:
    """SHA-256 and size of what arrived."""
    digest, size = hashlib.sha256(), 0
    with system.open(source, "rb") as remote, target.open("wb") as local:
        while piece := remote.read(_CHUNK):
            digest.update(piece)
            size += len(piece)
            local.write(piece)
    return digest.hexdigest(), size


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    try:
        yield
    except MaquetteError:
        raise
    except FileNotFoundError:
        raise MaquetteError(f"'{name}' does not exist, or is not finished") from None
    except Exception as error:  # every kind of storage has errors of its own
        words = " ".join(str(error).split())[:120]
        raise MaquetteError(f"'{name}' cannot be reached ({type(error).__name__}: {words})") from None
