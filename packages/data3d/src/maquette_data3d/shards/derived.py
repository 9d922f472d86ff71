"""The folder that a tool makes: its rows, its shards under new names, and what shards.json says of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from maquette.durable import whole_folder
from maquette.errors import MaquetteError
from maquette_data3d.shards.format import ShardFile
from maquette_data3d.shards.index import vocabulary
from maquette_data3d.shards.reader import ShardReader
from maquette_data3d.shards.storage import LocalFolder, local_path

TRAIN = "train"
_ANEW = ("samples", "shards", "vocabulary", "splits", "index", "fingerprint", "provenance")


def new_folder(out: str | Path) -> AbstractContextManager[Path]:
    """A folder to fill that becomes `out` when it is whole.

    Raises:
        MaquetteError: `out` is remote, or exists.
    """
    place = local_path(out)
    if place is None:
        raise MaquetteError(f"'{out}' is remote; write to a local folder and upload it")
    if place.exists():
        raise MaquetteError(f"'{place}' exists already; choose another folder, or delete it")
    return whole_folder(place)


def replaced(tables: Iterable[pa.Table], **columns: Any) -> Iterator[pa.Table]:
    """Tables with whole columns, given for all of them together, in place of their own."""
    place = 0
    for table in tables:
        new = table
        for name, values in columns.items():
            kind = table.schema.field(name)
            part = pa.array(values[place : place + len(table)], kind.type)
            new = new.set_column(table.schema.get_field_index(name), kind, part)
        place += len(table)
        yield new


def linked(chosen: Sequence[tuple[ShardReader, ShardFile]], folder: Path) -> list[ShardFile]:
    """Shards of other folders, numbered anew: another name for the same file where the disk can, else a copy.

    Raises:
        MaquetteError: one is missing or has a wrong size.
    """
    files = []
    for number, (reader, shard) in enumerate(chosen):
        name = f"shard_{number:05d}-{shard.sha256[:12]}.safetensors"
        told = reader.folder.name(shard.file)
        try:
            _place(reader, shard, folder / name)
        except FileNotFoundError:
            raise MaquetteError(f"shard '{told}' is missing; build the shards again") from None
        if (folder / name).stat().st_size != shard.bytes:
            raise MaquetteError(f"shard '{told}' has a wrong size; build the shards again")
        files.append(ShardFile(name, shard.bytes, shard.sha256, shard.samples))
    return files


def derived(
    facts: Mapping[str, Any],
    made: dict[str, Any],
    readers: Sequence[ShardReader],
    files: Sequence[ShardFile],
    *,
    index: ShardFile,
    splits: Sequence[str],
    captions: Sequence[str],
) -> dict[str, Any]:
    """shards.json of what a tool made: free facts as they were, what depends on the samples anew.

    Args:
        made: the tool and what it was told, for the provenance.
        readers: what it was made from.
        splits: of every sample, as `captions`.
    """
    contents = [*(file.sha256 for file in files), index.sha256]
    sources = [{name: reader.about.get(name) for name in ("fingerprint", "provenance")} for reader in readers]
    words = vocabulary(text for text, side in zip(captions, splits, strict=True) if side == TRAIN and text)
    return {name: value for name, value in facts.items() if name not in _ANEW} | {
        "samples": len(splits),
        "shards": [file.plain() for file in files],
        "index": index.plain(),
        "vocabulary": words,
        "splits": dict(sorted(Counter(splits).items())),
        "fingerprint": hashlib.sha256(json.dumps([facts["fields"], contents], sort_keys=True).encode()).hexdigest(),
        "provenance": {**made, "made_from": sources},
    }


def _place(reader: ShardReader, shard: ShardFile, target: Path) -> None:
    if isinstance(reader.folder, LocalFolder):
        try:
            os.link(reader.folder.folder / shard.file, target)
            return
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one that has no links
            target.unlink(missing_ok=True)
    with reader.folder.open(shard) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 4 * 2**20)
