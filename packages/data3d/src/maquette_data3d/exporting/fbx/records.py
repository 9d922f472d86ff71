"""The records of binary FBX: a name, typed properties, and records in it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

VERSION = 7400
_MAGIC = b"Kaydara FBX Binary  \x00\x1a\x00"
_END = b"\0" * 13  # of records in a record
_FOOT = bytes.fromhex("fabcab09d0c8d466b176fb831cf7267e")
_TAIL = bytes.fromhex("f85a8c6adef5d97eece90ce3758f290b")
# What a file without a date says; the foot above belongs to it.
FILE_ID = bytes.fromhex("28b32aebb624ccc2bfc8b02aa92bfcf1")
CREATION_TIME = "1970-01-01 10:00:00:000"
_ARRAYS = {"f8": b"d", "f4": b"f", "i4": b"i", "i8": b"l"}
_SMALL = 128  # bytes: arrays below are not packed

Value = bool | int | float | str | bytes | np.ndarray


@dataclass
class Long:
    """A number that takes 64 bits, as ids and times do."""

    value: int


@dataclass
class Record:
    """One record; numbers are 32 bits wide unless they are `Long`, texts UTF-8."""

    name: str
    values: Sequence[Value | Long] = ()
    inner: list[Record] = field(default_factory=list)

    def add(self, name: str, *values: Value | Long) -> Record:
        """A new record in this one."""
        made = Record(name, values)
        self.inner.append(made)
        return made

    def properties(self, rows: Iterable[tuple[str, str, str, str, tuple[Value | Long, ...]]]) -> None:
        """The usual table of settings: name, type, label, flags, values."""
        table = self.add("Properties70")
        for name, kind, label, flags, values in rows:
            table.add("P", name, kind, label, flags, *values)

    def written(self, start: int) -> bytes:
        """The bytes of the record at a place in the file."""
        name = self.name.encode()
        properties = b"".join(map(_property, self.values))
        body, at = [], start + 13 + len(name) + len(properties)
        for record in self.inner:
            body.append(record.written(at))
            at += len(body[-1])
        if self.inner or not self.values:
            body.append(_END)
            at += len(_END)
        head = struct.pack("<IIIB", at, len(self.values), len(properties), len(name))
        return b"".join([head, name, properties, *body])


def file_of(records: Sequence[Record]) -> bytes:
    """A whole file."""
    content = bytearray(_MAGIC + struct.pack("<I", VERSION))
    for record in records:
        content += record.written(len(content))
    content += _END + _FOOT + b"\0" * 4
    content += b"\0" * (-len(content) % 16 or 16)
    return bytes(content + struct.pack("<I", VERSION) + b"\0" * 120 + _TAIL)


def _property(value: Value | Long) -> bytes:
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Long):
        return b"L" + struct.pack("<q", value.value)
    if isinstance(value, bool):
        return b"C" + struct.pack("<B", value)
    if isinstance(value, int):
        return b"I" + struct.pack("<i", value)
    if isinstance(value, float):
        return b"D" + struct.pack("<d", value)
    content, kind = (value.encode("utf-8", "replace"), b"S") if isinstance(value, str) else (value, b"R")
    return kind + struct.pack("<I", len(content)) + content


def _array(values: np.ndarray) -> bytes:
    kind = _ARRAYS[values.dtype.str[1:]]
    content = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    packed = zlib.compress(content, 6) if len(content) > _SMALL else content
    return kind + struct.pack("<III", values.size, packed is not content, len(packed)) + packed
