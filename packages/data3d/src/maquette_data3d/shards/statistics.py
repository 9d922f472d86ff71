"""What a folder of shards holds, in figures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from maquette_data3d.shards.cache import Cache
from maquette_data3d.shards.reader import ShardReader

_QUANTILES = {"least": 0.0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "most": 1.0}
_MEASURES = ("tokens", "faces", "vertices", "components", "degenerate_area", "flatness", "unit_m")


def stats(folder: str | Path, cache: Cache | str | Path | None = None) -> dict[str, Any]:
    """Counts by split and class, sizes of fields, spread of the measures, and how many samples are related.

    Returns:
        Plain values, ready for JSON. "tokens_histogram" counts by upper bound, the powers of two; "fields" gives
        bytes over all shards; "quantiles" leaves out what is unknown everywhere.

    Raises:
        MaquetteError: the folder cannot be read.
    """
    reader = ShardReader(folder, cache)
    table = reader.index.table(["split", "class", "group", "duplicate_of", "textured"])
    quantiles = {name: _quantiles(reader.column(name)) for name in _MEASURES}
    return {
        "samples": len(reader),
        "shards": len(reader.shards),
        "bytes": sum(shard.bytes for shard in reader.shards),
        "splits": _counts(table.column("split")),
        "classes": _counts(table.column("class")),
        "classes_by_split": {
            split: _counts(table.filter(pa.compute.equal(table.column("split"), split)).column("class"))
            for split in sorted(_counts(table.column("split")))
        },
        "groups": len(table.column("group").unique()),
        "duplicates": int(pa.compute.sum(pa.compute.not_equal(table.column("duplicate_of"), "")).as_py() or 0),
        "textured": int(pa.compute.sum(table.column("textured")).as_py() or 0),
        "tokens_histogram": _histogram(reader.tokens),
        "fields": {name: _field(reader, name) for name in reader.fields},
        "quantiles": {name: spread for name, spread in quantiles.items() if spread},
    }


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Most frequent first, then by name."""
    found = [(entry["values"], entry["counts"]) for entry in column.value_counts().to_pylist()]
    return dict(sorted(found, key=lambda pair: (-pair[1], str(pair[0]))))


def _histogram(tokens: np.ndarray) -> dict[str, int]:
    bounds = np.where(tokens > 0, 2 ** np.ceil(np.log2(np.maximum(tokens, 1))), 0).astype(np.int64)
    values, counts = np.unique(bounds, return_counts=True)
    return {str(value): int(count) for value, count in zip(values, counts, strict=True)}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not len(known):
        return {}
    found = np.quantile(known, list(_QUANTILES.values()))
    return {name: float(value) for name, value in zip(_QUANTILES, found, strict=True)}


def _field(reader: ShardReader, name: str) -> dict[str, Any]:
    field = reader.fields[name]
    row = math.prod(field.shape) * np.dtype(field.dtype).itemsize
    if field.ragged:
        count = sum(int(reader.offsets(shard, name)[-1]) for shard in range(len(reader.shards)))
    else:
        count = sum(shard.samples for shard in reader.shards)
    samples = max(sum(shard.samples for shard in reader.shards), 1)
    mean = {"mean_rows": count / samples} if field.ragged else {}
    return {**field.plain(), "bytes": count * row, **mean}
