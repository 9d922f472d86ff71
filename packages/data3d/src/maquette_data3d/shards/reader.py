"""Reading a folder of shards: files mapped into memory, one sample or a window of it at a time."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maquette.errors import MaquetteError
from maquette_data3d.shards.cache import Cache
from maquette_data3d.shards.format import INDEX, MARKER, OFFSETS, Field, ShardFile, checksum, description
from maquette_data3d.shards.index import IndexTable
from maquette_data3d.shards.mapping import mapped
from maquette_data3d.shards.storage import Folder, open_folder

# Python keeps a file descriptor open for every mapped file, and 1024 is a common limit.
_MOST_OPEN = 512


@dataclass(frozen=True)
class Entry:
    """One sample as the index tells it; attributes, lineage and thumbnail are read when asked for."""

    id: str
    caption: str
    class_name: str
    class_id: int
    split: str
    group: str
    tokens: int
    sha256: str
    number: int
    _table: IndexTable = field(repr=False, compare=False)

    @property
    def attributes(self) -> dict[str, Any]:
        """What is known of the object, e.g. the parameters it was made with."""
        return self._json("attributes")

    @property
    def lineage(self) -> dict[str, Any]:
        """Where it came from and what was done to it."""
        return self._json("lineage")

    @property
    def part_names(self) -> list[str]:
        """What `surface_part` counts in; empty where the build did not say."""
        return [str(name) for name in self.lineage.get("names", {}).get("parts", ())]

    @property
    def thumbnail(self) -> bytes | None:
        """An encoded picture."""
        return self._table.value("thumbnail", self.number)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._table.value(name, self.number) or "{}"))
        except ValueError:
            raise MaquetteError(f"index '{self._table.path}', row {self.number}: '{name}' is no JSON object") from None


class ShardReader:
    """A folder of shards, here or at a URL. Threads may share one; a copy sent to another process opens anew.

    Args:
        folder: a path, or any URL that fsspec knows.
        cache: where files of a remote folder are kept, a `Cache` or its folder; see `open_folder`.

    Attributes:
        about: what shards.json says: fields, classes, vocabulary, resolution, ...
        fields: what every sample holds.
        shards: the files, in the order that `shard_of` counts in.
        shard_of: int32 ``[n]``, which file a sample is in.
        row_of: int32 ``[n]``, which row of that file it is.

    Raises:
        MaquetteError: the folder is missing, unfinished, of another format, or does not fit its index.
    """

    def __init__(self, folder: str | Path, cache: Cache | str | Path | None = None) -> None:
        self._arguments = (folder, cache)
        self.folder: Folder = open_folder(folder, cache)
        self.about: dict[str, Any] = description(self.folder.marker(), self.folder.name(MARKER))
        self.fields = {name: Field.of(plain) for name, plain in sorted(self.about["fields"].items())}
        self.shards = tuple(ShardFile(**plain) for plain in self.about["shards"])
        self.index = self._opened_index()
        self.shard_of: np.ndarray = self.index.numpy("shard")
        self.row_of: np.ndarray = self.index.numpy("row")
        self._check()
        self._open: dict[int, dict[str, np.ndarray]] = {}
        self._changing = threading.Lock()
        self._opening: dict[int, threading.Lock] = {}
        self._verified: set[int] = set()

    def __len__(self) -> int:
        return len(self.shard_of)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ShardReader, self._arguments)

    @cached_property
    def tokens(self) -> np.ndarray:
        """int32 ``[n]``: how many tokens a sample makes."""
        return self.index.numpy("tokens")

    @cached_property
    def class_ids(self) -> np.ndarray:
        """int64 ``[n]``: places in ``about["classes"]``."""
        known = pa.array(self.about["classes"], pa.string())
        found = pc.index_in(self.index.column("class"), known)
        if found.null_count:
            number = int(np.flatnonzero(found.is_null().to_numpy())[0])
            name = self.index.value("class", number)
            raise MaquetteError(f"'{self.folder}': sample {number} has class '{name}', which shards.json does not list")
        return found.to_numpy().astype(np.int64)

    def entry(self, number: int) -> Entry:
        """What the index says of one sample.

        Raises:
            MaquetteError: the index is damaged.
            IndexError: there is no such sample.
        """
        number = range(len(self))[number]
        names = ("id", "caption", "class", "split", "group", "tokens", "sha256")
        id_, caption, class_name, *rest = (self.index.value(name, number) for name in names)
        return Entry(id_, caption, class_name, int(self.class_ids[number]), *rest, number, self.index)

    def captions(self, numbers: Iterable[int]) -> list[str]:
        """The captions of some samples."""
        return [self.index.value("caption", int(number)) for number in numbers]

    def split(self, name: str) -> np.ndarray:
        """int64: numbers of the samples of a split, in order; none where nobody is in it."""
        return np.flatnonzero(pc.equal(self.index.column("split"), name).to_numpy()).astype(np.int64)

    def column(self, name: str) -> np.ndarray:
        """A column of the index, strangers' ones too; texts as objects.

        Raises:
            MaquetteError: there is none of that name.
        """
        return self.index.numpy(name)

    def array(self, number: int, name: str) -> np.ndarray:
        """A read-only view on one array of one sample; nothing is read before it is touched.

        Raises:
            MaquetteError: no such field, or the shard is missing or damaged.
        """
        arrays, row = self._shard(self.shard_of.item(number)), self.row_of.item(number)
        try:
            stacked = arrays[name]
        except KeyError:
            raise self._unknown(name) from None
        if not self.fields[name].ragged:
            return stacked[row, ...]
        offsets = arrays[name + OFFSETS]
        return stacked[offsets.item(row) : offsets.item(row + 1)]

    def sample(self, number: int) -> dict[str, np.ndarray]:
        """Views on all arrays of one sample."""
        return {name: self.array(number, name) for name in self.fields}

    def stacked(self, shard: int, name: str) -> np.ndarray:
        """A field of all samples of a file: ``[n, ...]``; of a ragged one all values, see `offsets`."""
        arrays = self._shard(shard)
        if name not in self.fields:
            raise self._unknown(name)
        return arrays[name]

    def offsets(self, shard: int, name: str) -> np.ndarray:
        """int64 ``[n + 1]``: where the rows of a ragged field begin in what `stacked` gives."""
        if name not in self.fields or not self.fields[name].ragged:
            raise MaquetteError(f"'{self.folder}': field '{name}' is not ragged")
        return self._shard(shard)[name + OFFSETS]

    def verify(self, number: int) -> None:
        """Compares a sample with its checksum, once.

        Raises:
            MaquetteError: it differs.
        """
        if number in self._verified:
            return
        if checksum(self.sample(number)) != self.index.value("sha256", number):
            shard = self.folder.name(self.shards[int(self.shard_of[number])].file)
            name = self.index.value("id", number)
            raise MaquetteError(
                f"'{shard}', row {self.row_of[number]} ('{name}') differs from its checksum; build the shards again"
            )
        self._verified.add(number)

    def damaged(self) -> list[int]:
        """Shards (places in `shards`) whose file is missing or has a wrong size; no file is opened."""
        sizes = self.folder.sizes([shard.file for shard in self.shards])
        return [place for place, shard in enumerate(self.shards) if sizes.get(shard.file) != shard.bytes]

    def close(self) -> None:
        """Lets go of the mapped files; views that were handed out stay good, and reading opens them again."""
        with self._changing:
            self._open = {}

    def _opened_index(self) -> IndexTable:
        plain = self.about.get("index")
        name = plain["file"] if plain else INDEX
        try:
            with self.folder.open(ShardFile(**plain) if plain else name) as file:
                size = os.fstat(file.fileno()).st_size
                if plain and size != plain["bytes"]:
                    told = f"index '{file.name}' has {size} bytes, shards.json says {plain['bytes']}"
                    raise MaquetteError(f"{told}; build the shards again")
                return IndexTable(Path(file.name))
        except FileNotFoundError:
            raise MaquetteError(f"index '{self.folder.name(name)}' is missing; build the shards again") from None

    def _check(self) -> None:
        if len(self) != self.about["samples"]:
            raise MaquetteError(f"'{self.index.path}' has {len(self)} rows, shards.json says {self.about['samples']}")
        if self.index.column("shard").null_count or self.index.column("row").null_count:
            raise MaquetteError(f"'{self.index.path}' does not say where every sample is; build the shards again")
        counts = np.array([shard.samples for shard in self.shards], np.int64)
        shard, row = self.shard_of, self.row_of
        bad = (shard < 0) | (shard >= len(counts)) | (row < 0)
        bad[~bad] = row[~bad] >= counts[shard[~bad]]
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise MaquetteError(
                f"'{self.index.path}', row {first}: no shard {shard[first]} with a row {row[first]}; build again"
            )

    def _unknown(self, name: str) -> MaquetteError:
        return MaquetteError(f"'{self.folder}' stores no '{name}'; it stores: {', '.join(self.fields)}")

    def _shard(self, number: int) -> dict[str, np.ndarray]:
        found = self._open.get(number)
        if found is not None:
            return found
        with self._changing:
            lock = self._opening.setdefault(number, threading.Lock())
        with lock:  # one a shard: threads wait for each other only where they fetch the same file
            if number not in self._open:
                arrays = mapped(self.folder, self.shards[number], self.fields)
                with self._changing:
                    self._make_room(self.shards[number].bytes)
                    self._open[number] = arrays
                return arrays
            return self._open[number]

    def _make_room(self, size: int) -> None:
        """Lets go of the shards that were opened first: close to least recently used, and reading takes no lock."""
        most = self.folder.most_mapped
        sizes = {number: self.shards[number].bytes for number in self._open}
        total = size + sum(sizes.values())
        for number in list(self._open):
            if len(self._open) < _MOST_OPEN and (most is None or total <= most):
                return
            total -= sizes[number]
            del self._open[number]
