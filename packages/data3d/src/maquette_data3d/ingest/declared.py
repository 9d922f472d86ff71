"""What a file claims about itself, checked against its size before any parser allocates memory for it."""

from __future__ import annotations

import struct
from pathlib import Path

from maquette.errors import MaquetteError
from maquette_data3d.ingest.limits import ReadLimits

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".3mf", ".fbx", ".zip")
_HEADER_BYTES = 65536
_FBX_BINARY = b"Kaydara FBX Binary"


def check(path: Path, limits: ReadLimits) -> None:
    """Raises MaquetteError ("reason: detail") for a file that is something else or claims more than it is."""
    size = path.stat().st_size
    if size == 0:
        raise MaquetteError("empty: the file has no bytes")
    if size > limits.largest_bytes:
        raise MaquetteError(f"too_large: {size} bytes, at most {limits.largest_bytes} are read")
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    checks = {
        ".glb": _glb,
        ".gltf": _gltf,
        ".ply": _ply,
        ".off": _off,
        ".stl": _stl,
        ".obj": _obj,
        ".3mf": _zip,
        ".zip": _zip,
        ".fbx": _fbx,
    }
    suffix = path.suffix.lower()
    if suffix not in checks:
        raise MaquetteError(f"wrong_extension: {suffix!r} is not one of {', '.join(SUFFIXES)}")
    checks[suffix](head, size)


def _glb(head: bytes, size: int) -> None:
    if head[:4] != b"glTF" or size < 20:
        raise MaquetteError("wrong_extension: named .glb but does not start as binary glTF")
    version, length, json_length, kind = struct.unpack_from("<IIII", head, 4)
    if version != 2 or kind != 0x4E4F534A:
        raise MaquetteError(f"unreadable: binary glTF of version {version}, only version 2 is read")
    if length > size or 20 + json_length > size:
        raise MaquetteError(f"truncated: declares {max(length, 20 + json_length)} bytes, has {size}")


def _gltf(head: bytes, size: int) -> None:
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise MaquetteError("wrong_extension: named .gltf but does not start as JSON")


def _ply(head: bytes, size: int) -> None:
    if not head.startswith(b"ply"):
        raise MaquetteError("wrong_extension: named .ply but does not start with 'ply'")
    header, found, _ = head.partition(b"end_header")
    if not found:
        raise MaquetteError("unreadable: its PLY header does not end")
    for line in header.decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["element"] and len(words) == 3:
            _fits(words[2], size, f"{words[1]} elements")


def _off(head: bytes, size: int) -> None:
    lines = [line.split(b"#")[0].strip() for line in head.splitlines()]
    words = b" ".join(line for line in lines if line).split()[:4]
    if not words or not words[0].upper().endswith(b"OFF"):
        raise MaquetteError("wrong_extension: named .off but does not start with 'OFF'")
    for word, what in zip(words[1:3], ("vertices", "faces"), strict=False):
        _fits(word.decode("ascii", "replace"), size, what)


def _fits(count: str, size: int, what: str) -> None:
    if not count.isascii() or not count.isdigit() or len(count) > 18:
        raise MaquetteError(f"unreadable: {count[:20]!r} is not a number of {what}")
    if int(count) > size:
        raise MaquetteError(f"declared_size: {count} {what} in {size} bytes")


def _stl(head: bytes, size: int) -> None:
    if head.lstrip().startswith(b"solid") and b"facet" in head:
        return
    if size < 84:
        raise MaquetteError("wrong_extension: named .stl but is neither text nor binary STL")
    declared = 84 + 50 * struct.unpack_from("<I", head, 80)[0]
    if declared != size:
        raise MaquetteError(f"truncated: binary STL of {declared} bytes, has {size}")


def _obj(head: bytes, size: int) -> None:
    if b"\x00" in head:
        raise MaquetteError("wrong_extension: named .obj but is not text")


def _zip(head: bytes, size: int) -> None:
    if head[:4] != b"PK\x03\x04":
        raise MaquetteError("wrong_extension: named as an archive but does not start as one")


def _fbx(head: bytes, size: int) -> None:
    # Text FBX opens with a comment and names its header soon; everything else is another file.
    if not head.startswith(_FBX_BINARY) and b"FBXHeaderExtension" not in head and b"; FBX" not in head[:64]:
        raise MaquetteError("wrong_extension: named .fbx but does not start as FBX")
