"""Folders of shards made from folders of shards: split, merge, filter, repack; each whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from maquette.errors import MaquetteError
from maquette_data3d.shards.derived import derived, linked, new_folder, replaced
from maquette_data3d.shards.format import INDEX, ShardFile, describe
from maquette_data3d.shards.index import write_index
from maquette_data3d.shards.reader import ShardReader
from maquette_data3d.shards.repacking import repack
from maquette_data3d.shards.splitting import kept_together, shared_out
from maquette_data3d.shards.statistics import stats
from maquette_data3d.shards.storage import local_path
from maquette_data3d.shards.verification import Problem, verify
from maquette_data3d.shards.where import matching

__all__ = ["Problem", "filter", "merge", "repack", "split", "stats", "verify"]

_RELATED = ["id", "group", "content", "duplicate_of", "split", "caption"]


def split(folder: str | Path, shares: Mapping[str, float], seed: int = 0) -> dict[str, Any]:
    """Shares the samples out anew; only the index is written. Families never cross, see `splitting.families`.

    The new index has a name of its own and takes effect when shards.json names it: a kill before leaves the
    old split, a kill after the new one.

    Args:
        shares: of the samples, by split, e.g. ``{"train": .9, "validation": .1}``; they sum to 1.

    Returns:
        "splits": the counts, and "moved": how many samples changed sides.

    Raises:
        MaquetteError: the folder is remote or cannot be read, or the shares do not sum to 1.
    """
    place = local_path(folder)
    if place is None:
        raise MaquetteError(f"'{folder}' is remote; split a local folder and upload it")
    reader = ShardReader(place)
    table = reader.index.table(_RELATED)
    old, captions = table.column("split").to_pylist(), table.column("caption").to_pylist()
    new = shared_out(table, shares, seed)
    temporary = place / f".index.{os.getpid()}.parquet"
    try:
        written = write_index(temporary, replaced(reader.index.groups(), split=new))
        index = ShardFile(f"index-{written.sha256[:12]}.parquet", written.bytes, written.sha256, written.samples)
        os.replace(temporary, place / index.file)
    finally:
        temporary.unlink(missing_ok=True)
    made = {"tool": "split", "shares": dict(shares), "seed": seed}
    about = derived(reader.about, made, [reader], reader.shards, index=index, splits=new, captions=captions)
    describe(place, about)
    for before in {INDEX, (reader.about.get("index") or {}).get("file", INDEX)} - {index.file}:
        (place / before).unlink(missing_ok=True)
    return {"splits": about["splits"], "moved": sum(one != other for one, other in zip(new, old, strict=True))}


def merge(folders: Sequence[str | Path], out: str | Path) -> dict[str, Any]:
    """One folder of several with the same fields; shards are linked where the disk can, else copied.

    An id that is taken already gets a number behind it ("chair" -> "chair~2"). Samples that belong together but come
    in different splits all go where the first of them is.

    Returns:
        Counts: "samples", "shards", "renamed" ids, and samples "moved" to another split.

    Raises:
        MaquetteError: a folder cannot be read, their fields or facts differ, or `out` exists.
    """
    readers = [ShardReader(folder) for folder in folders]
    if not readers:
        raise MaquetteError("merge: no folders were given")
    for reader in readers[1:]:
        _same_kind(readers[0], reader)
    schema = _common_schema(readers)
    light, renamed = _unique_ids([reader.index.table(_RELATED) for reader in readers])
    captions = light.column("caption").to_pylist()
    sides, moved = kept_together(light)
    firsts = np.cumsum([0, *(len(reader.shards) for reader in readers)], dtype=np.int32)
    columns = {
        "id": light.column("id").to_pylist(),
        "duplicate_of": light.column("duplicate_of").to_pylist(),
        "split": sides,
        "shard": np.concatenate([reader.shard_of + first for reader, first in zip(readers, firsts, strict=False)]),
    }
    groups = chain.from_iterable(_of_schema(reader.index.groups(), schema) for reader in readers)
    facts = {
        name: value for name, value in readers[0].about.items() if all(r.about.get(name) == value for r in readers)
    }
    facts["classes"] = list(dict.fromkeys(name for reader in readers for name in reader.about["classes"]))
    with new_folder(out) as temporary:
        files = linked([(reader, shard) for reader in readers for shard in reader.shards], temporary)
        index = write_index(temporary / INDEX, replaced(groups, **columns))
        made = {"tool": "merge"}
        describe(temporary, derived(facts, made, readers, files, index=index, splits=sides, captions=captions))
    return {"samples": len(sides), "shards": len(files), "renamed": renamed, "moved": moved}


def filter(folder: str | Path, out: str | Path, where: str) -> dict[str, Any]:
    """The samples that a condition over the index holds for, see `where.matching`; shards are linked, not rewritten.

    Shards that keep a sample are kept whole: `repack` frees the room of the others.

    Returns:
        Counts: "samples" and "shards" that are kept, "dropped" samples.

    Raises:
        MaquetteError: the folder cannot be read, the condition is wrong, nothing is left, or `out` exists.
    """
    reader = ShardReader(folder)
    keep = matching(reader.index, where)
    if not keep.any():
        raise MaquetteError(f"'{folder}': no sample meets the condition \"{where}\"")
    used = np.unique(reader.shard_of[keep])
    renumbered = np.searchsorted(used, reader.shard_of[keep]).astype(np.int32)
    captions, splits = (reader.column(name)[keep].tolist() for name in ("caption", "split"))
    with new_folder(out) as temporary:
        files = linked([(reader, reader.shards[number]) for number in used], temporary)
        index = write_index(temporary / INDEX, replaced(_kept(reader, keep), shard=renumbered))
        made = {"tool": "filter", "where": where}
        describe(temporary, derived(reader.about, made, [reader], files, index=index, splits=splits, captions=captions))
    return {"samples": len(splits), "shards": len(files), "dropped": len(reader) - len(splits)}


def _kept(reader: ShardReader, keep: np.ndarray) -> Iterator[pa.Table]:
    place = 0
    for table in reader.index.groups():
        yield table.filter(pa.array(keep[place : place + len(table)]))
        place += len(table)


def _common_schema(readers: Sequence[ShardReader]) -> pa.Schema:
    try:
        return pa.unify_schemas([reader.index.schema for reader in readers], promote_options="permissive")
    except pa.ArrowException as error:
        raise MaquetteError(f"merge: columns of the same name hold different types ({error})") from None


def _of_schema(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables with every column of a schema, empty where they have none."""
    for table in tables:
        columns = [
            table.column(field.name).cast(field.type)
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in schema
        ]
        yield pa.table(columns, schema=schema)


def _same_kind(first: ShardReader, other: ShardReader) -> None:
    for name in sorted(first.fields.keys() | other.fields.keys()):
        mine, theirs = first.fields.get(name), other.fields.get(name)
        if mine != theirs:
            raise MaquetteError(
                f"merge: field '{name}' is {mine or 'missing'} in '{first.folder}' and {theirs or 'missing'} in "
                f"'{other.folder}'; repack them to the same fields"
            )
    for name in ("resolution", "color_resolution", "truncation", "points"):
        if first.about.get(name) != other.about.get(name):
            raise MaquetteError(
                f"merge: {name} is {first.about.get(name)} in '{first.folder}' and {other.about.get(name)} in "
                f"'{other.folder}'; build them with the same settings"
            )


def _unique_ids(tables: Sequence[pa.Table]) -> tuple[pa.Table, int]:
    """The tables as one with ids that occur once, references along with them, and how many were renamed."""
    taken: set[str] = set()
    changed = [_renamed(table, taken) for table in tables]
    return pa.concat_tables(table for table, _ in changed), sum(count for _, count in changed)


def _renamed(table: pa.Table, taken: set[str]) -> tuple[pa.Table, int]:
    ids = table.column("id").to_pylist()
    own = set(ids)
    changed: dict[str, str] = {}
    for name in ids:
        if name in taken:
            number = 2
            while f"{name}~{number}" in taken or f"{name}~{number}" in own:
                number += 1
            changed[name] = f"{name}~{number}"
    new = [changed.get(name, name) for name in ids]
    taken.update(new)
    if not changed:
        return table, 0
    origins = [changed.get(name, name) for name in table.column("duplicate_of").to_pylist()]
    return next(replaced([table], id=new, duplicate_of=origins)), len(changed)
