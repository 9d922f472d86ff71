"""Reading a folder of shards: memory-mapped, one sample or a window of it at a time."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.shards import arrays
from maquette_data3d.shards.config import FORMAT

_TYPES = {"F16": np.float16, "F32": np.float32, "U8": np.uint8, "I64": np.int64}


@dataclass(frozen=True)
class Entry:
    """One line of the index."""

    id: str
    shard: str
    row: int
    caption: str
    class_name: str
    split: str
    sha256: str


class ShardReader:
    """A folder that `build_shards` wrote.

    Attributes:
        about: what shards.json says: resolution, truncation, classes, vocabulary, ...
        entries: one a sample, in the order of the shards.

    Raises:
        MaquetteError: the folder is missing, unfinished, of another format, or does not fit its index.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.about: dict[str, Any] = self._description()
        lines = (self.folder / "index.jsonl").read_text(encoding="utf-8").splitlines()
        self.entries = [_entry(json.loads(line)) for line in lines]
        if len(self.entries) != self.about["samples"]:
            raise MaquetteError(
                f"'{self.folder}': index.jsonl has {len(self.entries)} lines, not {self.about['samples']}"
            )
        self._open: dict[str, dict[str, np.ndarray]] = {}
        self._verified: set[int] = set()

    def _description(self) -> dict[str, Any]:
        marker = self.folder / "shards.json"
        if not marker.is_file():
            what = (
                "is an unfinished build; run it again to go on"
                if (self.folder / ".work").is_dir()
                else "holds no shards"
            )
            raise MaquetteError(f"'{self.folder}' {what if self.folder.is_dir() else 'does not exist'}")
        try:
            about = json.loads(marker.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            raise MaquetteError(f"'{marker}' is damaged: it is not JSON; build the shards again") from None
        if about.get("format") != FORMAT:
            raise MaquetteError(f"'{self.folder}' has shard format {about.get('format')}, this version reads {FORMAT}")
        return dict(about)

    def __len__(self) -> int:
        return len(self.entries)

    def split(self, name: str) -> list[int]:
        """Numbers of the samples of "train" or "validation"."""
        return [number for number, entry in enumerate(self.entries) if entry.split == name]

    def array(self, number: int, name: str) -> np.ndarray:
        """A view on one array of one sample; nothing is read before it is touched.

        Raises:
            MaquetteError: no such array, or the shard is damaged.
        """
        entry = self.entries[number]
        stacked = self._shard(entry.shard)
        if name not in stacked:
            raise MaquetteError(f"'{self.folder}' stores no '{name}'; it stores: {', '.join(sorted(stacked))}")
        if entry.row >= len(stacked[name]):
            raise MaquetteError(f"'{self.folder / entry.shard}' has no row {entry.row}; build the shards again")
        return stacked[name][entry.row]

    def verify(self, number: int) -> None:
        """Compares a sample with its checksum, once.

        Raises:
            MaquetteError: it differs.
        """
        if number in self._verified:
            return
        entry = self.entries[number]
        if arrays.checksum({name: self.array(number, name) for name in arrays.FIELDS}) != entry.sha256:
            raise MaquetteError(
                f"'{self.folder / entry.shard}', row {entry.row} ('{entry.id}') differs from its checksum; "
                "build the shards again"
            )
        self._verified.add(number)

    def _shard(self, name: str) -> dict[str, np.ndarray]:
        if name not in self._open:
            self._open[name] = mapped(self.folder / name)
        return self._open[name]


def _entry(line: dict[str, Any]) -> Entry:
    keys = ("id", "shard", "row", "caption", "class", "split", "sha256")
    return Entry(*(line[key] for key in keys))


def mapped(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file as read-only views on the mapped file.

    Raises:
        MaquetteError: the file is missing or its header does not fit its size.
    """
    try:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack_from("<Q", memory, 0)
        header = json.loads(memory[8 : 8 + length])
        header.pop("__metadata__", None)
        return {name: _view(memory, 8 + length, about) for name, about in header.items()}
    except FileNotFoundError:
        raise MaquetteError(f"shard '{path}' is missing; build the shards again") from None
    except (ValueError, KeyError, TypeError, struct.error, OSError) as error:
        raise MaquetteError(f"shard '{path}' is damaged ({error}); build the shards again") from None


def _view(memory: mmap.mmap, start: int, about: dict[str, Any]) -> np.ndarray:
    begin, end = about["data_offsets"]
    shape: Sequence[int] = about["shape"]
    kind = np.dtype(_TYPES[about["dtype"]])
    count = int(np.prod(shape, dtype=np.int64))
    if count * kind.itemsize != end - begin:
        raise ValueError("an array's size does not fit its shape")
    return np.frombuffer(memory, kind, count, start + begin).reshape(shape)
