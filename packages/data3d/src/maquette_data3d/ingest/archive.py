"""One model out of a ZIP archive, unpacked where nobody else looks, and never more than was allowed."""

from __future__ import annotations

import contextlib
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from maquette.errors import MaquetteError
from maquette_data3d.ingest.limits import ReadLimits

# The format that keeps most of a model comes first.
_PREFERRED = (".glb", ".gltf", ".fbx", ".3mf", ".obj", ".ply", ".off", ".stl")
_LARGEST_RATIO = 200
_SMALL = 2**20  # below this a high ratio is no bomb
_MOST_MEMBERS = 10_000
_PIECE = 2**20


@contextlib.contextmanager
def opened(path: Path, limits: ReadLimits) -> Iterator[Path]:
    """The one model of an archive, with its neighbours, in a private folder that goes with the context.

    The choice is fixed: by format (glTF, FBX, 3MF, OBJ, PLY, OFF, STL), then the shallowest path, then its name.

    Raises:
        MaquetteError: "unsafe_archive: ..." for names that leave the folder, links and archives in archives;
            "too_large: ..." and "archive_bomb: ..." for what it would inflate to; "empty: ..." without a model.
    """
    with checked(path, limits) as archive, tempfile.TemporaryDirectory(prefix="maquette-") as folder:
        members = [member for member in archive.infolist() if not member.is_dir() and not _hidden(member)]
        if any(PurePosixPath(member.filename).suffix.lower() == ".zip" for member in members):
            raise MaquetteError("unsafe_archive: an archive in an archive is not read")
        models = [member for member in members if PurePosixPath(member.filename).suffix.lower() in _PREFERRED]
        if not models:
            raise MaquetteError("empty: the archive holds no model")
        left = limits.largest_bytes
        for member in members if limits.external_files else [min(models, key=_rank)]:
            left -= _unpack(archive, member, Path(folder) / member.filename, left)
        yield Path(folder) / min(models, key=_rank).filename


@contextlib.contextmanager
def checked(path: Path, limits: ReadLimits) -> Iterator[zipfile.ZipFile]:
    """An archive whose names are safe and whose declared sizes are in bounds; as `opened` for errors."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise MaquetteError(f"unreadable: its archive is broken ({type(error).__name__})") from error
    with archive:
        members = archive.infolist()
        if len(members) > _MOST_MEMBERS:
            raise MaquetteError(f"archive_bomb: {len(members)} files, at most {_MOST_MEMBERS} are read")
        for member in members:
            _check_name(member)
        _check_sizes(members, path.stat().st_size, limits)
        yield archive


def content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """The bytes of a member; MaquetteError where it is broken or inflates past `most` whatever it declares."""
    pieces, size = [], 0
    try:
        with archive.open(member) as file:
            while piece := file.read(_PIECE):
                size += len(piece)
                if size > most:
                    raise MaquetteError(f"archive_bomb: {_shown(member)} inflates past {most} bytes")
                pieces.append(piece)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError, OSError) as error:
        words = " ".join(str(error).split())[:60]
        raise MaquetteError(f"unreadable: {_shown(member)} does not unpack ({words})") from error
    return b"".join(pieces)


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, most: int) -> int:
    found = content(archive, member, most)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(found)
    return len(found)


def _check_name(member: zipfile.ZipInfo) -> None:
    name = member.filename
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or "\\" in name or drive or not path.parts or "\x00" in name:
        raise MaquetteError(f"unsafe_archive: {_shown(member)} leaves the folder")
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise MaquetteError(f"unsafe_archive: {_shown(member)} is a link or a device")


def _check_sizes(members: list[zipfile.ZipInfo], size: int, limits: ReadLimits) -> None:
    total = sum(member.file_size for member in members)
    if total > limits.largest_bytes:
        raise MaquetteError(f"too_large: it unpacks to {total} bytes, at most {limits.largest_bytes} are read")
    if total > max(_SMALL, _LARGEST_RATIO * size):
        raise MaquetteError(f"archive_bomb: {size} bytes unpack to {total}")


def _hidden(member: zipfile.ZipInfo) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(member.filename).parts)


def _rank(member: zipfile.ZipInfo) -> tuple[int, int, str]:
    path = PurePosixPath(member.filename)
    return _PREFERRED.index(path.suffix.lower()), len(path.parts), member.filename


def _shown(member: zipfile.ZipInfo) -> str:
    return repr(member.filename[:60])
