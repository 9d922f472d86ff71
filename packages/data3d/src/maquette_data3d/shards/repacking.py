"""The same samples in shards of another size, order, precision or with fewer fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from maquette.errors import MaquetteError, unknown_name
from maquette_data3d.shards.derived import derived, new_folder, replaced
from maquette_data3d.shards.format import INDEX, Field, ShardFile, checksum, describe, write_shard
from maquette_data3d.shards.index import write_index
from maquette_data3d.shards.reader import ShardReader

_PRECISIONS = {"exact": "float32"}


def repack(
    folder: str | Path,
    out: str | Path,
    shard_samples: int,
    *,
    precision: str | Mapping[str, str] | None = None,
    fields: Sequence[str] | None = None,
    order: str | None = None,
) -> dict[str, Any]:
    """Writes the samples of a folder anew, each compared with its checksum on the way.

    Where a sample's arrays change, it gets a new checksum.

    Args:
        shard_samples: samples a shard.
        precision: "float16" or "exact" (float32) for all floating-point fields, or by field, e.g. {"tsdf": "float16"}.
            Cameras, joints and meshes are usually kept exact: then name the others.
        fields: which to keep; None keeps all.
        order: None keeps that of the index, "group" puts groups side by side, "tokens" goes from short to long.

    Returns:
        Counts: "samples", "shards", "bytes", and "bytes_before".

    Raises:
        MaquetteError: the folder cannot be read, a sample is damaged or does not fit half precision, an argument
            is wrong, or `out` exists.
    """
    reader = ShardReader(folder)
    if shard_samples < 1:
        raise MaquetteError("repack: shard_samples must be at least 1")
    kept = _chosen(reader, fields, precision)
    numbers = _order(reader, order)
    with new_folder(out) as temporary:
        files, sums = _written(reader, numbers, kept, temporary, shard_samples)
        shard, row = np.divmod(np.arange(len(numbers), dtype=np.int32), np.int32(shard_samples))
        tables = reader.index.groups() if order is None else [reader.index.table().take(pa.array(numbers))]
        index = write_index(temporary / INDEX, replaced(tables, shard=shard, row=row, sha256=sums))
        facts = reader.about | {"fields": {name: field.plain() for name, field in kept.items()}}
        told = dict(precision) if isinstance(precision, Mapping) else precision
        made = {"tool": "repack", "shard_samples": shard_samples, "precision": told, "order": order}
        captions, splits = (reader.column(name)[numbers].tolist() for name in ("caption", "split"))
        describe(temporary, derived(facts, made, [reader], files, index=index, splits=splits, captions=captions))
    sizes = {"bytes": sum(file.bytes for file in files), "bytes_before": sum(file.bytes for file in reader.shards)}
    return {"samples": len(numbers), "shards": len(files), **sizes}


def _written(
    reader: ShardReader, numbers: np.ndarray, fields: Mapping[str, Field], folder: Path, shard_samples: int
) -> tuple[list[ShardFile], list[str]]:
    """The new shards, and the checksum of every sample in them."""
    files: list[ShardFile] = []
    sums: list[str] = []
    for start in range(0, len(numbers), shard_samples):
        samples = [_converted(reader, int(number), fields) for number in numbers[start : start + shard_samples]]
        sums += [checksum(sample) for sample in samples]
        files.append(write_shard(folder, len(files), samples, fields))
    return files, sums


def _chosen(
    reader: ShardReader, names: Sequence[str] | None, precision: str | Mapping[str, str] | None
) -> dict[str, Field]:
    chosen = list(reader.fields) if names is None else list(names)
    wanted = precision if isinstance(precision, Mapping) else {}
    for name in [*chosen, *wanted]:
        if name not in reader.fields:
            raise unknown_name("field", name, reader.fields, where=f"in '{reader.folder}'")
    if not chosen:
        raise MaquetteError("repack: no fields are left")
    found = {}
    for name in sorted(chosen):
        field = reader.fields[name]
        floating = np.dtype(field.dtype).kind == "f"
        target = wanted.get(name) or (precision if isinstance(precision, str) and floating else field.dtype)
        target = _PRECISIONS.get(target, target)
        if target != field.dtype and (not floating or target not in ("float16", "float32")):
            raise MaquetteError(f"repack: precision of '{name}' ({field}) cannot be '{target}'; use float16 or exact")
        found[name] = Field(target, field.shape, field.ragged)
    return found


def _order(reader: ShardReader, order: str | None) -> np.ndarray:
    if order is None:
        return np.arange(len(reader))
    if order == "tokens":
        return np.argsort(reader.tokens, kind="stable")
    if order == "group":
        return np.argsort(reader.column("group").astype(str), kind="stable")
    raise unknown_name("order", order, ("group", "tokens"), where="in repack")


def _converted(reader: ShardReader, number: int, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
    reader.verify(number)
    sample = {}
    for name, field in fields.items():
        array = reader.array(number, name)
        if array.dtype.name != field.dtype:
            with np.errstate(over="ignore"):
                array, before = array.astype(field.dtype), array
            if not np.array_equal(np.isfinite(array), np.isfinite(before)):
                raise MaquetteError(f"repack: '{name}' of '{reader.entry(number).id}' does not fit {field.dtype}")
        sample[name] = array
    return sample
