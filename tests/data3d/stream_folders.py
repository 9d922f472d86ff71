"""A small folder of shards for the tests of the stream, and how they read it."""

from __future__ import annotations

from itertools import islice

import numpy as np

from maquette_data3d.shards.format import FORMAT, checksum, describe, fields_of, write_shard
from maquette_data3d.shards.index import write_index
from maquette_data3d.stream.dataset import Shards, ShardsConfig

EVERYTHING = ["tsdf", "color", "surface", "normals", "surface_color", "near", "near_sdf"]


def sample(number):
    rng = np.random.default_rng(number)
    points = rng.random((256, 3)).astype(np.float16)
    return {
        "tsdf": rng.random((1, 8, 8, 8)).astype(np.float16),
        "color": rng.integers(0, 256, (3, 4, 4, 4), dtype=np.uint8),
        "surface": points,
        "normals": points + np.float16(1),
        "surface_color": rng.integers(0, 256, (256, 3), dtype=np.uint8),
        "near": rng.random((128, 3)).astype(np.float16),
        "near_sdf": rng.random(128).astype(np.float16),
        "voxels": rng.integers(0, 8, (number % 7, 3)).astype(np.int16),
        "dual_points": rng.integers(0, 256, (number % 7, 3), dtype=np.uint8),
    }


def write_folder(folder, count=40, per_shard=6, classes=("chair", "table"), **about):
    files, rows = [], []
    fields = fields_of(sample(0), ragged=["voxels", "dual_points"])
    for start in range(0, count, per_shard):
        held = [sample(number) for number in range(start, min(start + per_shard, count))]
        for row, arrays in enumerate(held):
            number = start + row
            rows.append({"id": f"{folder.name}_{number}", "shard": len(files), "row": row, "sha256": checksum(arrays)})
            split = "validation" if number % 5 == 0 else "train"
            rows[-1] |= {"caption": f"shape {number}", "class": classes[number % len(classes)], "split": split}
            rows[-1] |= {"tokens": 1 + number % 9}
        files.append(write_shard(folder, len(files), held, fields))
    index = write_index(folder / "index.parquet", rows)
    plain = {name: field.plain() for name, field in fields.items()}
    settings = {"resolution": 8, "color_resolution": 4, "truncation": 0.05, "vocabulary": ["shape"], **about}
    settings |= {"classes": list(classes), "shards": [file.plain() for file in files], "index": index.plain()}
    describe(folder, {"format": FORMAT, "fields": plain, "samples": count, **settings})
    return folder


def opened(folder, rank=0, world=1, state=None, **settings):
    stream = Shards(ShardsConfig(str(folder), **{"batch_size": 4, "points": 64, "prefetch": 0, **settings}))
    stream.rank, stream.world = rank, world
    if state is not None:
        stream.load_state_dict(state)
    stream.setup("fit")
    return stream


def batches(stream, count):
    return list(islice(stream.train_dataloader(), count))


def names(found):
    return [name for batch in found for name in batch["id"]]


def number(name):
    return int(name.rpartition("_")[2])
