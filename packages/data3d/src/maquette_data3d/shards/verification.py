"""Looking for damage in a folder of shards: what is wrong, where, and which samples it costs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from maquette.errors import MaquetteError
from maquette_data3d.shards.cache import Cache
from maquette_data3d.shards.format import INDEX, MARKER, checksum, description
from maquette_data3d.shards.mapping import mapped
from maquette_data3d.shards.reader import ShardReader
from maquette_data3d.shards.splitting import families
from maquette_data3d.shards.storage import open_folder


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        file: name in the folder.
        detail: what is wrong with it.
        lost: ids of the samples that cannot be trusted any more; none where all can still be read,
            or where the index itself is gone.
    """

    file: str
    detail: str
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.lost[:3]) + (", ..." if len(self.lost) > 3 else "")
        return f"{self.file}: {self.detail}" + (f"; {len(self.lost)} samples lost ({shown})" if self.lost else "")


def verify(folder: str | Path, cache: Cache | str | Path | None = None) -> list[Problem]:
    """Reads everything: whole files against their hashes, every sample against its checksum, the index against itself.

    Returns:
        What is wrong; empty for a folder that is whole.

    Raises:
        MaquetteError: the folder does not exist, is unfinished, or cannot be reached.
    """
    place = open_folder(folder, cache)
    text = place.marker()
    try:
        about = description(text, place.name(MARKER))
    except MaquetteError as error:
        return [Problem(MARKER, str(error))]
    try:
        reader = ShardReader(folder, cache)
    except MaquetteError as error:
        return [Problem((about.get("index") or {}).get("file", INDEX), str(error))]
    problems = _index_problems(reader)
    by_shard = np.argsort(reader.shard_of, kind="stable")
    bounds = np.searchsorted(reader.shard_of[by_shard], np.arange(len(reader.shards) + 1))
    for shard in range(len(reader.shards)):
        problems += _shard_problems(reader, shard, by_shard[bounds[shard] : bounds[shard + 1]])
        reader.close()
    return problems


def _index_problems(reader: ShardReader) -> list[Problem]:
    told = reader.about.get("index")
    name = told["file"] if told else INDEX
    try:
        columns = ["id", "class", "split", "group", "content", "duplicate_of", "sha256"]
        table = reader.index.table(columns)
        for _ in reader.index.groups():  # every column has to be readable
            continue
        details = list(_contradictions(reader, table))
    except MaquetteError as error:
        return [Problem(name, str(error))]
    if told:
        with reader.folder.open(name) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != told["sha256"]:
                details.insert(0, "differs from its hash in shards.json")
    return [Problem(name, detail) for detail in details]


def _contradictions(reader: ShardReader, table: pa.Table) -> Iterator[str]:
    """Where the index does not agree with itself or with shards.json."""
    ids = table.column("id")
    if len(ids.unique()) != len(ids):
        yield f"{len(ids) - len(ids.unique())} ids occur more than once"
    places = reader.shard_of.astype(np.int64) * 2**32 + reader.row_of
    if np.any(np.diff(places) <= 0):
        number = int(np.flatnonzero(np.diff(places) <= 0)[0]) + 1
        yield f"row {number} ('{ids[number].as_py()}') is out of order, or takes a place that is taken"
    unknown = sorted(set(table.column("class").unique().to_pylist()) - set(reader.about["classes"]))
    if unknown:
        yield f"class '{unknown[0]}' is not among the classes of shards.json"
    crossing = _crossing(table)
    if crossing:
        yield f"{crossing} groups of samples that belong together are in more than one split"
    counts = {row["values"]: row["counts"] for row in table.column("split").value_counts().to_pylist()}
    told = reader.about.get("splits", counts)
    if told != counts:
        yield f"splits are {counts}, shards.json says {told}"


def _crossing(table: pa.Table) -> int:
    splits = np.unique(table.column("split").to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
    pairs = np.unique(np.stack([families(table), splits]), axis=1)
    return int(np.sum(np.unique(pairs[0], return_counts=True)[1] > 1)) if pairs.size else 0


def _shard_problems(reader: ShardReader, shard: int, numbers: np.ndarray) -> list[Problem]:
    file = reader.shards[shard]
    ids = [reader.index.value("id", int(number)) for number in numbers]
    try:
        with reader.folder.open(file) as handle:
            whole = hashlib.file_digest(handle, "sha256").hexdigest() == file.sha256
        mapped(reader.folder, file, reader.fields)
    except FileNotFoundError:
        return [Problem(file.file, "is missing", tuple(ids))]
    except MaquetteError as error:
        return [Problem(file.file, str(error), tuple(ids))]
    lost = [name for number, name in zip(numbers.tolist(), ids, strict=True) if not _intact(reader, number)]
    if not whole:
        return [Problem(file.file, "differs from its hash in shards.json", tuple(lost))]
    return [Problem(file.file, "samples differ from their checksums in the index", tuple(lost))] if lost else []


def _intact(reader: ShardReader, number: int) -> bool:
    return checksum(reader.sample(number)) == reader.index.value("sha256", number)
