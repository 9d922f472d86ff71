"""The description of a glTF under construction, and the bytes that it describes."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

ARRAY, ELEMENTS = 34962, 34963
_COMPONENTS = {"u1": 5121, "u2": 5123, "u4": 5125, "f4": 5126}
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Document:
    """Arrays go in, numbers of accessors come out; `json` is the description, without empty lists when written."""

    def __init__(self) -> None:
        self.json: dict[str, Any] = {"asset": {"version": "2.0", "generator": "maquette"}, "scene": 0}
        self.extensions: dict[str, bool] = {}
        self._blob = bytearray()
        for key in ("scenes", "nodes", "meshes", "materials", "textures", "images", "skins", "animations"):
            self.json[key] = []
        self.json |= {"accessors": [], "bufferViews": [], "buffers": []}

    def add(self, key: str, entry: dict[str, Any]) -> int:
        """The number of a new entry of a top-level list."""
        self.json[key].append(entry)
        return len(self.json[key]) - 1

    def needs(self, extension: str, required: bool) -> None:
        """Names an extension that the file uses."""
        self.extensions[extension] = required or self.extensions.get(extension, False)

    def view(self, content: bytes, target: int | None = None) -> int:
        """The number of a new buffer view, aligned to 4 bytes."""
        entry = {"buffer": 0, "byteOffset": self.place(content), "byteLength": len(content)}
        return self.add("bufferViews", entry if target is None else entry | {"target": target})

    def place(self, content: bytes) -> int:
        """Where bytes start in the binary chunk, a multiple of 4."""
        self._blob += b"\0" * (-len(self._blob) % 4)
        start = len(self._blob)
        self._blob += content
        return start

    def accessor(self, values: np.ndarray, target: int | None = None, normalized: bool = False) -> int:
        """The number of a new accessor of an array [n] or [n, components], with its bounds."""
        found = described(values) | ({"normalized": True} if normalized else {})
        return self.add("accessors", {"bufferView": self.view(packed(values), target), **found})

    def glb(self) -> bytes:
        """The whole file."""
        described_all = {key: value for key, value in self.json.items() if value != []}
        if self.extensions:
            described_all["extensionsUsed"] = sorted(self.extensions)
            required = sorted(name for name, needed in self.extensions.items() if needed)
            described_all |= {"extensionsRequired": required} if required else {}
        blob = bytes(self._blob) + b"\0" * (-len(self._blob) % 4)
        if blob:
            described_all["buffers"] = [{"byteLength": len(self._blob)}, *self.json["buffers"]]
        text = json.dumps(described_all, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        body = struct.pack("<I4s", len(text), b"JSON") + text
        body += struct.pack("<I4s", len(blob), b"BIN\0") + blob if blob else b""
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def described(values: np.ndarray) -> dict[str, Any]:
    """An accessor's words on an array [n] or [n, components]: type, count and bounds."""
    rows = values.reshape(len(values), -1)
    return {
        "componentType": _COMPONENTS[values.dtype.str[1:]],
        "count": len(rows),
        "type": _TYPES[rows.shape[1]],
        "min": rows.min(0).tolist(),
        "max": rows.max(0).tolist(),
    }


def packed(values: np.ndarray) -> bytes:
    """Little-endian bytes, row by row."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def text(name: str) -> str:
    """A name without halves of characters, which no UTF-8 can hold."""
    return name.encode("utf-8", "replace").decode("utf-8")
