"""``index.json``: which tensors a checkpoint holds, and in which pieces they lie in which files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import torch

from maquette.errors import MaquetteError
from maquette.json_text import LARGEST_BYTES, parse_json

FORMAT = 2
INDEX_FILE = "index.json"


@dataclass(frozen=True)
class Chunk:
    """A box of a tensor: it starts at ``offsets``, has ``sizes``, and is ``key`` in ``file``."""

    file: str
    key: str
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A whole tensor and the chunks that make it up."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]

    @property
    def bytes(self) -> int:
        """Of the whole tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def whole(self) -> bool:
        """Whether it lies in one piece."""
        return len(self.chunks) == 1 and self.chunks[0].sizes == self.shape


Index = dict[str, dict[str, Entry]]
"""Part of the state -> name -> tensor."""


def encode(index: Mapping[str, Mapping[str, Entry]]) -> str:
    """The text of ``index.json``."""
    parts = {
        part: {
            name: {
                "dtype": str(entry.dtype).removeprefix("torch."),
                "shape": entry.shape,
                "chunks": [
                    {"file": c.file, "key": c.key, "offsets": c.offsets, "sizes": c.sizes} for c in entry.chunks
                ],
            }
            for name, entry in entries.items()
        }
        for part, entries in index.items()
    }
    return json.dumps({"format": FORMAT, "parts": parts}, separators=(",", ":")) + "\n"


def decode(text: str, largest: int = LARGEST_BYTES) -> Index:
    """Read ``index.json`` and check that every tensor is there in full.

    Args:
        text: of the file.
        largest: length that is read.

    Raises:
        MaquetteError: it is no index of this format, or pieces of a tensor are missing.
    """
    try:
        value = parse_json(text, largest)
        if value["format"] != FORMAT:
            raise MaquetteError(f"{INDEX_FILE} has format {value['format']}; this version reads {FORMAT}")
        index = {
            part: {name: _entry(name, item) for name, item in entries.items()}
            for part, entries in value["parts"].items()
        }
        _check_once(index)
        return index
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaquetteError(f"{INDEX_FILE} is not an index: {type(error).__name__} {error}") from None


def _entry(name: str, item: Mapping[str, Any]) -> Entry:
    dtype = getattr(torch, item["dtype"], None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"'{name}' has the unknown type '{item['dtype']}'")
    shape = _sizes(item["shape"])
    chunks = tuple(
        Chunk(str(c["file"]), str(c["key"]), _sizes(c["offsets"]), _sizes(c["sizes"])) for c in item["chunks"]
    )
    for chunk in chunks:
        # Whoever sends a checkpoint must not be able to name files outside its folder.
        if PurePath(chunk.file).name != chunk.file:
            raise ValueError(f"'{name}' names the file '{chunk.file}'")
        ends = [at + size for at, size in zip(chunk.offsets, chunk.sizes, strict=True)]
        if any(end > size for end, size in zip(ends, shape, strict=True)):
            raise ValueError(f"'{name}' has a piece outside of {list(shape)}")
    if sum(math.prod(chunk.sizes) for chunk in chunks) != math.prod(shape):
        raise ValueError(f"the pieces of '{name}' do not make up {list(shape)}")
    return Entry(dtype, shape, chunks)


def _check_once(index: Index) -> None:
    """No piece is shown twice: a small file must not stand for a large tensor."""
    pieces = [(c.file, c.key) for entries in index.values() for entry in entries.values() for c in entry.chunks]
    if len(set(pieces)) != len(pieces):
        raise ValueError("a piece of a file is named more than once")


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(size, int) and size >= 0 for size in value):
        raise ValueError(f"{value} are no sizes")
    return tuple(value)
