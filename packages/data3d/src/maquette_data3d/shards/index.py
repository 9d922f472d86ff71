"""The index of a shard folder: one row a sample as Parquet, with a fixed schema and room for strangers' columns."""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette_data3d.shards.format import ShardFile

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "key")),
        *((name, pa.int32()) for name in ("shard", "row")),
        *((name, pa.string()) for name in ("caption", "class", "split", "group", "duplicate_of")),
        *((name, pa.int32()) for name in ("tokens", "faces", "vertices", "components")),
        ("degenerate_area", pa.float32()),
        ("textured", pa.bool_()),
        *((name, pa.float32()) for name in ("flatness", "unit_m")),
        *((name, pa.string()) for name in ("content", "sha256", "attributes", "lineage")),
        ("thumbnail", pa.binary()),
    ]
)
ROW_GROUP = 8192
_REQUIRED = ("id", "shard", "row")
_ABSENT: dict[str, Any] = {"attributes": "{}", "lineage": "{}", "thumbnail": None}
_EMPTY = {pa.string(): "", pa.int32(): 0, pa.float32(): math.nan, pa.bool_(): False}
# Repeating texts are worth a dictionary; for texts that differ by row it costs time and gives nothing.
_REPEATING = ["class", "split", "caption", "attributes"]
# Read group by group when somebody looks; the others are kept once they were asked for.
_HEAVY = frozenset({"key", "content", "attributes", "lineage", "thumbnail"})
_GROUPS_KEPT = 16
# What pyarrow raises at bytes that are no Parquet: broken names and texts come as UnicodeDecodeError.
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError, MemoryError)
_WORD = re.compile(r"[a-z0-9]+")


def vocabulary(captions: Iterable[str]) -> list[str]:
    """The lower-case words of captions, sorted."""
    return sorted({word for caption in captions for word in _WORD.findall(caption.lower())})


def write_index(
    path: Path, rows: pa.Table | Iterable[Mapping[str, Any] | Iterable[Mapping[str, Any]] | pa.Table]
) -> ShardFile:
    """Writes the index whole or not at all: the same bytes for the same rows with the same pyarrow.

    Args:
        rows: mappings with at least "id", "shard" and "row"; or chunks of them; or Arrow tables. What a mapping
            lacks is empty (``group`` is the id); "attributes" and "lineage" may be dicts. Columns beside the
            schema's are kept; each must be there from the first row group on.

    Returns:
        Name, size, hash and rows of the file, for the key "index" of shards.json.

    Raises:
        MaquetteError: a row lacks a required column or has a value of another type.
    """
    samples = 0
    with whole_file(path) as temporary:
        groups = _groups(rows)
        first = next(groups, SCHEMA.empty_table())
        with pq.ParquetWriter(
            temporary,
            first.schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=_REPEATING,
            write_page_checksum=True,
        ) as writer:
            for group in _chain(first, groups):
                writer.write_table(group, row_group_size=ROW_GROUP)
                samples += len(group)
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = temporary.stat().st_size
    return ShardFile(path.name, size, digest, samples)


def read_index(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The index as an Arrow table.

    Raises:
        MaquetteError: it is missing or damaged.
    """
    return IndexTable(path).table(columns)


class IndexTable:
    """Columns of an index, read when first asked for; the heavy ones row group by row group.

    Raises:
        MaquetteError: the file is missing, damaged or lacks a column of the schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._groups: OrderedDict[tuple[str, int], pa.Array] = OrderedDict()
        self._lock = threading.RLock()
        try:
            self._file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
            schema, metadata = self._file.schema_arrow, self._file.metadata
        except FileNotFoundError:
            raise MaquetteError(f"index '{path}' is missing; build the shards again") from None
        except _DAMAGE as error:
            raise self._damaged(error) from None
        self.schema: pa.Schema = schema
        self.names: tuple[str, ...] = tuple(schema.names)
        for column in SCHEMA:
            if column.name not in self.names or schema.field(column.name).type != column.type:
                raise MaquetteError(f"index '{path}' has no column '{column.name}' of type {column.type}")
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column; kept from then on.

        Raises:
            MaquetteError: there is none, or the file is damaged.
        """
        with self._lock:
            if name not in self._columns:
                self._columns[name] = self.table([name]).column(0)
            return self._columns[name]

    def numpy(self, name: str) -> np.ndarray:
        """A whole column as a numpy array: numbers as they are, texts and bytes as objects."""
        column = self.column(name)
        return self._read(lambda: column.to_numpy(zero_copy_only=False))

    def value(self, name: str, number: int) -> Any:
        """One value as a Python object."""
        if name not in _HEAVY:
            return self._read(self.column(name)[number].as_py)
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        with self._lock:
            found = self._groups.get((name, group))
            if found is None:
                found = self._read(lambda: self._file.read_row_group(group, columns=[name])).column(0)
                self._groups[name, group] = found
                if len(self._groups) > _GROUPS_KEPT:
                    self._groups.popitem(last=False)
            else:
                self._groups.move_to_end((name, group))
        return self._read(found[number - int(self._starts[group])].as_py)

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Some or all columns as a table, read now."""
        for name in columns or ():
            if name not in self.names:
                raise MaquetteError(f"index '{self.path}' has no column '{name}'; it has: {', '.join(self.names)}")
        return self._read(lambda: self._file.read(columns=columns))

    def groups(self) -> Iterator[pa.Table]:
        """All columns, row group by row group: an index with pictures may be larger than memory."""
        for group in range(len(self._starts) - 1):
            yield self._read(lambda group=group: self._file.read_row_group(group))

    def _read(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> MaquetteError:
        words = " ".join(str(error).split())[:80]
        return MaquetteError(f"index '{self.path}' is damaged ({words}); build the shards again")


def _chain(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Groups of one schema."""
    yield first
    place = len(first)
    for table in rest:
        odd = sorted(set(table.column_names) ^ set(first.column_names))
        if odd:
            raise MaquetteError(
                f"index: column '{odd[0]}' is not in all row groups (row {place}); give it in every row"
            )
        try:
            yield table.select(first.column_names).cast(first.schema)
        except pa.ArrowException as error:
            raise MaquetteError(f"index: rows from {place} on do not fit those before ({error})") from None
        place += len(table)


def _groups(rows: Any) -> Iterator[pa.Table]:
    """Tables of ROW_GROUP rows, the last one shorter, whatever the pieces that came in."""
    waiting: list[pa.Table] = []
    count = 0
    for table in _tables(rows):
        waiting.append(table)
        count += len(table)
        if count >= ROW_GROUP:
            whole = pa.concat_tables(waiting, promote_options="permissive")
            cut = count - count % ROW_GROUP
            yield from (whole.slice(start, ROW_GROUP) for start in range(0, cut, ROW_GROUP))
            waiting, count = [whole.slice(cut)], count - cut
    if count:
        yield pa.concat_tables(waiting, promote_options="permissive")


def _tables(rows: Any) -> Iterator[pa.Table]:
    if isinstance(rows, pa.Table):
        yield _conform(rows)
        return
    single: list[Mapping[str, Any]] = []
    for item in rows:
        if isinstance(item, Mapping):
            single.append(item)
            if len(single) == ROW_GROUP:
                yield _of_rows(single)
                single = []
            continue
        if single:
            yield _of_rows(single)
            single = []
        yield _conform(item) if isinstance(item, pa.Table) else _of_rows(list(item))
    if single:
        yield _of_rows(single)


def _conform(table: pa.Table) -> pa.Table:
    """The schema's columns first, of its types; strangers' columns behind, by name."""
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise MaquetteError(f"index: the table has no column '{missing[0]}'")
    extra = sorted(set(table.column_names) - set(SCHEMA.names))
    columns = [table.column(field.name).cast(field.type) for field in SCHEMA]
    schema = pa.schema([*SCHEMA, *(pa.field(name, table.schema.field(name).type) for name in extra)])
    return pa.table([*columns, *(table.column(name) for name in extra)], schema=schema)


def _of_rows(rows: list[Mapping[str, Any]]) -> pa.Table:
    extra = sorted({name for row in rows for name in row} - set(SCHEMA.names))
    columns = []
    for field in SCHEMA:
        try:
            columns.append(pa.array([_value(row, field) for row in rows], field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise MaquetteError(
                f"index: column '{field.name}' holds something that is no {field.type} ({error})"
            ) from None
    for name in extra:
        try:
            columns.append(pa.array([row.get(name) for row in rows]))
        except (pa.ArrowException, TypeError) as error:
            raise MaquetteError(f"index: column '{name}' mixes types ({error})") from None
    return pa.table(columns, names=[*SCHEMA.names, *extra])


def _value(row: Mapping[str, Any], field: pa.Field) -> Any:
    name = field.name
    if name in row:
        value = row[name]
        return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, dict) else value
    if name in _REQUIRED:
        raise MaquetteError(f"index: a row has no '{name}'")
    if name == "group":
        return row["id"]
    return _ABSENT[name] if name in _ABSENT else _EMPTY[field.type]
