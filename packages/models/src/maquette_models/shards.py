"""Reads shapes of a shard folder through the registered dataset, so that this package needs no data
package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from maquette import plugins
from maquette.errors import MaquetteError

READER = "shards"  # the registered dataset that reads the folder
READ_BATCH = 16


def open_shards(folder: str, reader: str = READER, fields: Sequence[str] | None = None) -> Any:
    """The data module of a folder, set up for one process."""
    block = {"name": reader, "folder": folder, "batch_size": READ_BATCH, "shuffle": False}
    data = plugins.build("datasets", block if fields is None else {**block, "fields": list(fields)})
    data.prepare_data()
    data.setup("fit")
    return data


def read_shards(
    folder: str, split: str, reader: str = READER, fields: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Every shape of a split once, in batches, in the order of the index.

    A training loader is endless, so the "train" split ends where an `id` comes back: an epoch holds each id
    once.

    Args:
        folder: what the dataset `reader` reads.
        split: "train" or "val".
        reader: the registered dataset.
        fields: which arrays to read, where the reader's default is not enough.

    Raises:
        MaquetteError: batches without `id`, or a split that is neither "train" nor "val".
    """
    if split not in ("train", "val"):
        raise MaquetteError(f"'{split}' is no split of '{folder}'; use train or val")
    data = open_shards(folder, reader, fields)
    seen: set[str] = set()
    for batch in data.train_dataloader() if split == "train" else data.val_dataloader():
        if "id" not in batch:
            raise MaquetteError(f"dataset '{reader}' gives batches without 'id'; it cannot be read once through")
        names = batch["id"]
        fresh = [row for row, name in enumerate(names) if name not in seen and name not in names[:row]]
        if fresh:
            yield batch if len(fresh) == len(names) else choose(batch, fresh)
        if len(fresh) < len(names):
            return
        seen.update(names)


def choose(batch: Mapping[str, Any], rows: list[int]) -> dict[str, Any]:
    """Some rows of a batch of tensors and lists."""
    return {key: value[rows] if isinstance(value, Tensor) else [value[i] for i in rows] for key, value in batch.items()}


def shard_facts(folder: str, reader: str = READER) -> dict[str, Any]:
    """What the shards say of themselves: classes, vocabulary, resolution, ..."""
    return dict(open_shards(folder, reader).facts())


def shards_fingerprint(folder: str) -> str:
    """A digest of the folder's small files (index, report), which change when shards are built anew."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.json*")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
