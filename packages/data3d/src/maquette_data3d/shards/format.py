"""The files of a shard folder: fields, checksums, and how a safetensors file of stacked samples is written.

The container is safetensors (https://github.com/huggingface/safetensors, "Format"): eight bytes of header
length, a JSON header, then the arrays back to back. We write it ourselves, because samples then pass from
where they are to the file without being stacked in memory, hashed on the way.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maquette.durable import fsync, write_json
from maquette.errors import MaquetteError

FORMAT = 2
MARKER = "shards.json"
INDEX = "index.parquet"
OFFSETS = ".offsets"

CODES = {
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
    "float32": "F32",
    "int32": "I32",
    "uint32": "U32",
    "float16": "F16",
    "int16": "I16",
    "uint16": "U16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ALIGNMENT = 64


@dataclass(frozen=True)
class Field:
    """One array of every sample.

    Attributes:
        dtype: numpy's name of the element type.
        shape: of one sample's array; of a ragged one without its first axis, whose length differs by sample.
        ragged: whether that first axis is there.
    """

    dtype: str
    shape: tuple[int, ...]
    ragged: bool = False

    def plain(self) -> dict[str, Any]:
        """As shards.json holds it."""
        return {"dtype": self.dtype, "shape": list(self.shape), "ragged": self.ragged}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Field:
        """From what shards.json holds.

        Raises:
            KeyError, TypeError, ValueError: it holds something else.
        """
        if plain["dtype"] not in CODES:
            raise ValueError(f"unknown element type {plain['dtype']!r}")
        return cls(plain["dtype"], tuple(int(size) for size in plain["shape"]), bool(plain["ragged"]))

    def fits(self, array: np.ndarray) -> bool:
        """Whether an array is one sample of this field."""
        inner = array.shape[1:] if self.ragged else array.shape
        return array.dtype.name == self.dtype and inner == self.shape and array.ndim == len(self.shape) + self.ragged

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(['*'] * self.ragged + [str(size) for size in self.shape])}]"


@dataclass(frozen=True)
class ShardFile:
    """A file that was written: its name in the folder, size in bytes, hash, and samples within."""

    file: str
    bytes: int
    sha256: str
    samples: int

    def plain(self) -> dict[str, Any]:
        """As shards.json holds it."""
        return asdict(self)


def fields_of(sample: Mapping[str, np.ndarray], ragged: Sequence[str] = ()) -> dict[str, Field]:
    """The fields that a sample is one of, sorted by name.

    Args:
        ragged: names of the arrays whose first axis differs by sample.

    Raises:
        MaquetteError: a name, an element type or a ragged scalar that shards cannot hold.
    """
    fields = {}
    for name in sorted(sample):
        array = np.asarray(sample[name])
        if not _NAME.fullmatch(name):
            raise MaquetteError(f"field '{name}': a field's name has letters, digits and underscores only")
        if array.dtype.name not in CODES:
            raise MaquetteError(f"field '{name}' has type {array.dtype.name}; shards hold: {', '.join(sorted(CODES))}")
        if name in ragged and array.ndim == 0:
            raise MaquetteError(f"field '{name}' is a single value and cannot be ragged")
        fields[name] = Field(array.dtype.name, array.shape[name in ragged :], name in ragged)
    return fields


def checksum(sample: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over a sample's arrays: names, element types, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(sample):
        array = _little_endian(sample[name])
        digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
        digest.update(_raw(array))
    return digest.hexdigest()


def write_shard(
    folder: Path, number: int, samples: Sequence[Mapping[str, np.ndarray]], fields: Mapping[str, Field]
) -> ShardFile:
    """Writes samples as one file, whole or not at all, named after its content: the same bytes every time.

    Fixed-size fields are stacked ``[n, ...]``; ragged ones are concatenated, with ``<name>.offsets``
    int64 ``[n + 1]`` beside them. The widest element types come first, so that every array is aligned.

    Raises:
        MaquetteError: a sample does not have exactly these fields.
    """
    if not samples:
        raise MaquetteError(f"shard {number} of '{folder}' would have no samples")
    for row, sample in enumerate(samples):
        _check(sample, fields, f"shard {number}, sample {row}")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".shard_{number:05d}.{os.getpid()}.safetensors"
    digest, size = hashlib.sha256(), 0
    try:
        with temporary.open("wb") as file:
            for piece in _pieces(samples, fields):
                digest.update(piece)
                file.write(piece)
                size += len(piece)
        fsync(temporary)
        name = f"shard_{number:05d}-{digest.hexdigest()[:12]}.safetensors"
        os.replace(temporary, folder / name)
        fsync(folder)
    finally:
        temporary.unlink(missing_ok=True)
    return ShardFile(name, size, digest.hexdigest(), len(samples))


def describe(folder: Path, about: Mapping[str, Any]) -> None:
    """Writes shards.json, which declares the folder complete: call it last of all."""
    write_json(folder / MARKER, dict(about))


def description(text: str | bytes, where: str) -> dict[str, Any]:
    """What shards.json says, checked as far as readers rely on it.

    Raises:
        MaquetteError: it is no description of this format.
    """
    try:
        about = json.loads(text)
        found = about["format"]
        if found == FORMAT:
            parsed = [Field.of(plain) for plain in about["fields"].values()]
            files = [ShardFile(**plain) for plain in [*about["shards"], *filter(None, [about.get("index")])]]
            safe = all(
                Path(f.file).name == f.file and min(f.bytes, f.samples) >= 0 and _is_hash(f.sha256) for f in files
            )
            named = isinstance(about["classes"], list) and all(isinstance(name, str) for name in about["classes"])
            if not (parsed and safe and named and int(about["samples"]) >= 0):
                raise ValueError("a value that cannot be")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        words = " ".join(str(error).split())[:80]
        raise MaquetteError(f"'{where}' is damaged ({words}); build the shards again") from None
    if found != FORMAT:
        raise MaquetteError(f"'{where}' has shard format {found}, this version reads {FORMAT}; build the shards again")
    return dict(about)


def _is_hash(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _check(sample: Mapping[str, np.ndarray], fields: Mapping[str, Field], where: str) -> None:
    if sample.keys() != fields.keys():
        odd = sorted(sample.keys() ^ fields.keys())
        raise MaquetteError(f"{where}: every sample of a folder has the same fields; '{odd[0]}' is not in all")
    for name, field in fields.items():
        array = np.asarray(sample[name])
        if not field.fits(array):
            raise MaquetteError(f"{where}: '{name}' is {array.dtype.name} {list(array.shape)}, expected {field}")


def _pieces(samples: Sequence[Mapping[str, np.ndarray]], fields: Mapping[str, Field]) -> Iterator[memoryview | bytes]:
    """The file from first to last byte."""
    offsets = {
        name: np.concatenate([[0], np.cumsum([len(sample[name]) for sample in samples])]).astype("<i8")
        for name, field in fields.items()
        if field.ragged
    }
    header: dict[str, Any] = {"__metadata__": {"maquette_shard": str(FORMAT)}}
    place = 0
    order = _order(fields)
    for name, field in order:
        owner = name.removesuffix(OFFSETS)
        rows = len(samples) + (name in _offset_names(fields))
        shape = [int(offsets[owner][-1]) if field.ragged else rows, *field.shape]
        size = math.prod(shape) * np.dtype(field.dtype).itemsize
        header[name] = {"dtype": CODES[field.dtype], "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    yield struct.pack("<Q", len(text)) + text
    for name, _ in order:
        if name in _offset_names(fields):
            yield _raw(offsets[name.removesuffix(OFFSETS)])
        else:
            for sample in samples:
                yield _raw(_little_endian(sample[name]))


def _offset_names(fields: Mapping[str, Field]) -> set[str]:
    return {name + OFFSETS for name, field in fields.items() if field.ragged}


def _order(fields: Mapping[str, Field]) -> list[tuple[str, Field]]:
    stored = dict(fields) | {name: Field("int64", ()) for name in _offset_names(fields)}
    return sorted(stored.items(), key=lambda item: (-np.dtype(item[1].dtype).itemsize, item[0]))


def _little_endian(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, order="C")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _raw(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))
