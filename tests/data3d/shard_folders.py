"""Small folders of shards for tests: random samples of random fields, and a folder written from them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from maquette_data3d.shards import format as shard_format
from maquette_data3d.shards import index as shard_index

CLASSES = ["chair", "table"]


def filled(rng, dtype, shape):
    """Random values of any element type, all bits in use."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(size=shape).astype(kind)
    bounds = np.iinfo(kind)
    return rng.integers(bounds.min, bounds.max, shape, dtype=kind, endpoint=True)


@st.composite
def sample_sets(draw, most=6):
    """Fields, and samples that have them: ragged ones too, empty rows and axes of length 0 among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)
    kinds = st.tuples(st.sampled_from(sorted(shard_format.CODES)), shapes, st.booleans())
    names = st.sampled_from(["tsdf", "color", "surface", "voxels", "_a", "B2"])
    chosen = draw(st.dictionaries(names, kinds, min_size=1, max_size=4))
    fields = {name: shard_format.Field(*kind) for name, kind in sorted(chosen.items())}
    samples = []
    for _ in range(draw(st.integers(1, most))):
        lengths = {name: (int(rng.integers(0, 4)),) if field.ragged else () for name, field in fields.items()}
        samples.append({name: filled(rng, f.dtype, lengths[name] + f.shape) for name, f in fields.items()})
    return fields, samples


def plain_samples(count, seed=0):
    """Samples of one fixed and one ragged field."""
    rng = np.random.default_rng(seed)
    return [
        {"surface": filled(rng, "float32", (8, 3)), "voxels": filled(rng, "int16", (int(rng.integers(0, 5)), 3))}
        for _ in range(count)
    ]


def row_of(number, shard, row, sample, prefix):
    """What the index says of a sample unless a test says otherwise."""
    return {
        "id": f"{prefix}{number}",
        "shard": shard,
        "row": row,
        "caption": f"a chair number {number}",
        "class": CLASSES[number % 2],
        "split": "train" if number % 4 else "validation",
        "tokens": number * 100,
        "faces": number,
        "sha256": shard_format.checksum(sample),
        "attributes": {"legs": number},
        "lineage": {"source": f"{number}.glb"},
    }


def write_folder(folder, samples, fields=None, shard_samples=3, prefix="s", **columns):
    """A complete folder; `columns` give values by row number, or one for all."""
    folder.mkdir(parents=True)
    fields = fields or shard_format.fields_of(samples[0], ragged=["voxels"])
    files, rows = [], []
    for start in range(0, len(samples), shard_samples):
        part = samples[start : start + shard_samples]
        for row, sample in enumerate(part):
            number = len(rows)
            given = {name: value(number) if callable(value) else value for name, value in columns.items()}
            rows.append(row_of(number, len(files), row, sample, prefix) | given)
        files.append(shard_format.write_shard(folder, len(files), part, fields))
    splits = [row["split"] for row in rows]
    about = {
        "format": shard_format.FORMAT,
        "fields": {name: field.plain() for name, field in fields.items()},
        "samples": len(samples),
        "shards": [file.plain() for file in files],
        "index": shard_index.write_index(folder / shard_format.INDEX, rows).plain(),
        "classes": CLASSES,
        "splits": {name: splits.count(name) for name in sorted(set(splits))},
        "resolution": 16,
    }
    shard_format.describe(folder, about | {"fingerprint": prefix, "provenance": {"tool": "test"}})
    return folder
