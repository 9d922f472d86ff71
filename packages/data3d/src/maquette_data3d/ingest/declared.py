"""What a file claims about itself, checked against its size before any parser allocates memory for it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from maquette.errors import MaquetteError

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")
_GLB_HEADER, _GLB_CHUNK, _JSON_CHUNK = 12, 8, 0x4E4F534A
_COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_HEADER_BYTES = 65536


def check(path: Path, largest_bytes: int) -> None:
    """Raises MaquetteError ("reason: detail") for a file that is something else or claims more than it is."""
    size = path.stat().st_size
    if size == 0:
        raise MaquetteError("empty: the file has no bytes")
    if size > largest_bytes:
        raise MaquetteError(f"too_large: {size} bytes, at most {largest_bytes} are read")
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    checks = {".glb": _glb, ".gltf": _gltf, ".ply": _ply, ".off": _off, ".stl": _stl, ".obj": _obj}
    checks[path.suffix.lower()](path, head, size)


def _glb(path: Path, head: bytes, size: int) -> None:
    if head[:4] != b"glTF" or size < _GLB_HEADER + _GLB_CHUNK:
        raise MaquetteError("wrong_extension: named .glb but does not start as binary glTF")
    version, length = struct.unpack_from("<II", head, 4)
    json_length, kind = struct.unpack_from("<II", head, _GLB_HEADER)
    if version != 2 or kind != _JSON_CHUNK:
        raise MaquetteError(f"unreadable: binary glTF of version {version}, only version 2 is read")
    if length > size or _GLB_HEADER + _GLB_CHUNK + json_length > size:
        raise MaquetteError(f"truncated: declares {length} bytes, has {size}")
    with path.open("rb") as file:
        file.seek(_GLB_HEADER + _GLB_CHUNK)
        document = _json(file.read(json_length))
    _document(document, path, size)


def _gltf(path: Path, head: bytes, size: int) -> None:
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise MaquetteError("wrong_extension: named .gltf but does not start as JSON")
    _document(_json(path.read_bytes()), path, size)


def _json(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise MaquetteError("unreadable: its glTF description is not JSON") from error
    if not isinstance(document, dict):
        raise MaquetteError("unreadable: its glTF description is not an object")
    return document


def _document(document: dict[str, Any], path: Path, size: int) -> None:
    """Buffers are there, views lie in buffers, accessors in views, and no URI leaves the folder."""
    try:
        available = size + sum(_outside(entry, path) for entry in _entries(document, "buffers", "images"))
        lengths = [int(view["byteLength"]) for view in document.get("bufferViews", [])]
        if any(length < 0 for length in lengths) or max(lengths, default=0) > available:
            raise MaquetteError(f"declared_size: a buffer view of {max(lengths)} bytes in {available}")
        for accessor in document.get("accessors", []):
            count = int(accessor["count"])
            item = _COMPONENT_BYTES[accessor["componentType"]] * _COMPONENTS[accessor["type"]]
            # Without a view the accessor is zeros (or sparse): nothing in the file backs its size.
            room = lengths[accessor["bufferView"]] if "bufferView" in accessor else available
            if count < 0 or count * item > room:
                raise MaquetteError(f"declared_size: an accessor of {count} x {item} bytes in {room}")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise MaquetteError(f"unreadable: its glTF description is broken ({type(error).__name__})") from error


def _entries(document: dict[str, Any], *keys: str) -> list[dict[str, Any]]:
    return [entry for key in keys for entry in document.get(key, []) if "uri" in entry]


def _outside(entry: dict[str, Any], path: Path) -> int:
    """Bytes behind a URI, which must be inline or name a file in the glTF's own folder."""
    uri = str(entry["uri"])
    if uri.startswith("data:"):
        return 0  # counted in the file's own size
    parsed = urlparse(uri)
    folder = path.parent.resolve()
    target = (folder / unquote(parsed.path)).resolve()
    if parsed.scheme or parsed.netloc or not target.is_relative_to(folder):
        raise MaquetteError(f"outside_uri: {uri[:80]!r} is not in the file's own folder")
    if not target.is_file():
        raise MaquetteError(f"missing_file: {uri[:80]!r} is not beside it")
    return target.stat().st_size


def _ply(path: Path, head: bytes, size: int) -> None:
    if not head.startswith(b"ply"):
        raise MaquetteError("wrong_extension: named .ply but does not start with 'ply'")
    header, found, _ = head.partition(b"end_header")
    if not found:
        raise MaquetteError("unreadable: its PLY header does not end")
    for line in header.decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["element"] and len(words) == 3:
            _fits(words[2], size, f"{words[1]} elements")


def _off(path: Path, head: bytes, size: int) -> None:
    lines = [line.split(b"#")[0].strip() for line in head.splitlines()]
    words = b" ".join(line for line in lines if line).split()[:4]
    if not words or not words[0].upper().endswith(b"OFF"):
        raise MaquetteError("wrong_extension: named .off but does not start with 'OFF'")
    for word, what in zip(words[1:3], ("vertices", "faces"), strict=False):
        _fits(word.decode("ascii", "replace"), size, what)


def _fits(count: str, size: int, what: str) -> None:
    if not count.isdigit():
        raise MaquetteError(f"unreadable: {count[:20]!r} is not a number of {what}")
    if int(count) > size:
        raise MaquetteError(f"declared_size: {count} {what} in {size} bytes")


def _stl(path: Path, head: bytes, size: int) -> None:
    if head.lstrip().startswith(b"solid") and b"facet" in head:
        return
    if size < 84:
        raise MaquetteError("wrong_extension: named .stl but is neither text nor binary STL")
    declared = 84 + 50 * struct.unpack_from("<I", head, 80)[0]
    if declared != size:
        raise MaquetteError(f"truncated: binary STL of {declared} bytes, has {size}")


def _obj(path: Path, head: bytes, size: int) -> None:
    if b"\x00" in head:
        raise MaquetteError("wrong_extension: named .obj but is not text")
