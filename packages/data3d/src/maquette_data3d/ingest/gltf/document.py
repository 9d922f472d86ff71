"""A glTF's description and the bytes behind it, nothing believed that its size does not back."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from maquette.errors import MaquetteError
from maquette_data3d.ingest.beside import Beside
from maquette_data3d.ingest.gltf import meshopt
from maquette_data3d.ingest.limits import ReadLimits

COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
DRACO = "KHR_draco_mesh_compression"
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
# Extensions that a file may require: those that change bytes or geometry and are read here, ...
_READ = {DRACO, *_MESHOPT, "KHR_mesh_quantization", "KHR_texture_transform", "EXT_mesh_gpu_instancing"}
_READ |= {"EXT_texture_webp", "KHR_texture_basisu", "MSFT_texture_dds", "KHR_lights_punctual", "KHR_xmp_json_ld"}
_SURFACES = "KHR_materials_"  # ... and those that only change how a surface shines.
# One group of 16 deltas costs 2 bits at least, one index or triangle a byte.
_MESHOPT_RATIO = 64


class Document:
    """One file: `json` as parsed, views and images by number."""

    def __init__(self, path: Path, limits: ReadLimits) -> None:
        self._beside = Beside(path, limits)
        self._limits = limits
        self._chunk: bytes | None = None
        self._buffers: dict[int, bytes] = {}
        self._views: dict[int, bytes] = {}
        self._inflated = 0
        self._lists: dict[str, list[dict[str, Any]]] = {}
        content = path.read_bytes()
        self._size = len(content)
        if path.suffix.lower() == ".glb":
            content, self._chunk = _chunks(content)
        self.json = _json(content)
        self._check()

    def entries(self, key: str) -> list[dict[str, Any]]:
        """A top-level list of objects, empty where there is none."""
        if key not in self._lists:
            found = self.json.get(key, [])
            if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
                raise MaquetteError(f"unreadable: its glTF description is broken ({key} is no list of objects)")
            self._lists[key] = found
        return self._lists[key]

    def entry(self, key: str, place: Any) -> dict[str, Any]:
        """One object of a top-level list."""
        found = self.entries(key)
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(found):
            raise MaquetteError(f"unreadable: its glTF description is broken ({key} has no {str(place)[:20]})")
        return found[place]

    def view(self, place: Any) -> bytes:
        """The bytes of a buffer view, inflated where they are packed."""
        if place not in self._views:
            view = self.entry("bufferViews", place)
            packed = _packed(view)
            self._views[place] = self._inflate(packed) if packed else self._slice(view)
        return self._views[place]

    def content(self, entry: dict[str, Any]) -> bytes | None:
        """The bytes of an image; None where its file is not there."""
        if "bufferView" in entry:
            return self.view(entry["bufferView"])
        uri = str(entry.get("uri", ""))
        return _inline(uri) if uri.startswith("data:") else self._beside.required(uri)

    def _slice(self, view: dict[str, Any]) -> bytes:
        buffer = self._buffer(view["buffer"])
        start, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        if start < 0 or length < 0 or start + length > len(buffer):
            raise MaquetteError(f"declared_size: a buffer view up to byte {start + length} of {len(buffer)}")
        return buffer[start : start + length]

    def _inflate(self, packed: dict[str, Any]) -> bytes:
        self._inflated += int(packed["count"]) * int(packed["byteStride"])
        if self._inflated > self._limits.largest_bytes:
            raise MaquetteError(f"too_large: its buffers inflate past {self._limits.largest_bytes} bytes")
        count, stride = int(packed["count"]), int(packed["byteStride"])
        filtered = str(packed.get("filter", "NONE"))
        return meshopt.decode(self._slice(packed), count, stride, str(packed["mode"]), filtered)

    def _buffer(self, place: Any) -> bytes:
        if place not in self._buffers:
            entry = self.entry("buffers", place)
            uri = entry.get("uri")
            if uri is None:
                if place != 0 or self._chunk is None:
                    raise MaquetteError(f"missing_file: buffer {place} has neither a URI nor a binary chunk")
                self._buffers[place] = self._chunk
            else:
                uri = str(uri)
                self._buffers[place] = _inline(uri) if uri.startswith("data:") else self._beside.required(uri)
        return self._buffers[place]

    def _check(self) -> None:
        """Files are there and inside, views lie in what there is, accessors in views, extensions are known."""
        version = str(self.json.get("asset", {}).get("version", "2.0"))
        if not version.startswith("2."):
            raise MaquetteError(f"unreadable: glTF of version {version[:8]}, only version 2 is read")
        for name in self.json.get("extensionsRequired", []):
            if name not in _READ and not str(name).startswith(_SURFACES):
                raise MaquetteError(f"unsupported: it requires the extension {str(name)[:60]!r}")
        try:
            self._check_sizes()
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise MaquetteError(f"unreadable: its glTF description is broken ({type(error).__name__})") from error

    def _check_sizes(self) -> None:
        available = self._size
        for entry in [*self.entries("buffers"), *self.entries("images")]:
            uri = entry.get("uri")
            if uri is not None and not str(uri).startswith("data:"):
                available += self._beside.located(str(uri)).stat().st_size
        lengths = []
        for view in self.entries("bufferViews"):
            lengths.append(int(view["byteLength"]))
            packed = _packed(view)
            room = available
            if packed:
                room = int(packed["count"]) * int(packed["byteStride"])
                if not 0 <= int(packed["byteLength"]) <= available or room > _MESHOPT_RATIO * available:
                    raise MaquetteError(f"declared_size: a packed view of {room} bytes in {available}")
            if not 0 <= lengths[-1] <= room:
                raise MaquetteError(f"declared_size: a buffer view of {lengths[-1]} bytes in {room}")
        # Draco's accessors are backed by nothing but the packed geometry.
        unbacked = self._limits.largest_bytes if DRACO in str(self.json.get("extensionsUsed", "")) else available
        for accessor in self.entries("accessors"):
            count = int(accessor["count"])
            item = COMPONENT_BYTES[accessor["componentType"]] * COMPONENTS[accessor["type"]]
            room = lengths[accessor["bufferView"]] if "bufferView" in accessor else unbacked
            if count < 0 or count * item > room:
                raise MaquetteError(f"declared_size: an accessor of {count} x {item} bytes in {room}")


def _packed(view: dict[str, Any]) -> dict[str, Any] | None:
    extensions = view.get("extensions", {})
    return next((extensions[name] for name in _MESHOPT if name in extensions), None)


def _chunks(content: bytes) -> tuple[bytes, bytes | None]:
    (length,) = struct.unpack_from("<I", content, 12)
    start = 20 + length
    if len(content) < start + 8:
        return content[20:start], None
    length, kind = struct.unpack_from("<I4s", content, start)
    if start + 8 + length > len(content):
        raise MaquetteError(f"truncated: its binary chunk has {len(content) - start - 8} of {length} bytes")
    return content[20:start], content[start + 8 : start + 8 + length] if kind == b"BIN\x00" else None


def _json(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MaquetteError("unreadable: its glTF description is not JSON") from error
    if not isinstance(document, dict):
        raise MaquetteError("unreadable: its glTF description is not an object")
    return document


def _inline(uri: str) -> bytes:
    head, _, body = uri.partition(",")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body) + b"===")
    except binascii.Error as error:
        raise MaquetteError("unreadable: an inline buffer is no base64") from error
