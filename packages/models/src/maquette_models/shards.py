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
SPLITS = ("train", "val", "unseen_pairs")


def open_shards(
    folder: str, reader: str = READER, fields: Sequence[str] | None = None, split: str = "train", **settings: Any
) -> Any:
    """The data module of a folder, set up for one process; its training stream is that of `split`.

    Args:
        folder: what the dataset `reader` reads.
        reader: the registered dataset.
        fields: which arrays to read, where the reader's default is not enough.
        split: of the training stream; the validation split is always there.
        settings: further keys of the dataset, e.g. `points`.
    """
    where = {"folder": folder} if split == "train" else {"sources": [{"folder": folder, "split": split}]}
    block = {"name": reader, **where, "batch_size": READ_BATCH, "shuffle": False, **settings}
    data = plugins.build("datasets", block if fields is None else {**block, "fields": list(fields)})
    data.prepare_data()
    data.setup("fit")
    return data


def read_shards(
    folder: str, split: str, reader: str = READER, fields: Sequence[str] | None = None, **settings: Any
) -> Iterator[dict[str, Any]]:
    """Every shape of a split once, in batches, in the order of the index.

    A training loader is endless, so every split but "val" ends where an `id` comes back: an epoch holds each id
    once.

    Args:
        folder: what the dataset `reader` reads.
        split: "train", "val", or "unseen_pairs": shapes with a pair of attributes that training never sees.
        reader: the registered dataset.
        fields: which arrays to read, where the reader's default is not enough.
        settings: further keys of the dataset: `points=0` reads all points that are stored, `attributes=True` gives
            each sample's attributes, a list of mappings.

    Raises:
        MaquetteError: batches without `id`, another split, or one that the folder lacks.
    """
    if split not in SPLITS:
        raise MaquetteError(f"'{split}' is no split of '{folder}'; use {', '.join(SPLITS)}")
    data = open_shards(folder, reader, fields, "train" if split == "val" else split, **settings)
    seen: set[str] = set()
    for batch in data.val_dataloader() if split == "val" else data.train_dataloader():
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


def stored_fields(folder: str, reader: str = READER) -> list[str]:
    """Names of the arrays that a folder stores."""
    return list(open_shards(folder, reader).stored_fields())


def splits_of(folder: str, reader: str = READER) -> list[str]:
    """The splits that have shapes, "train" first."""
    sizes = open_shards(folder, reader).split_sizes()
    named = {"validation": "val"}
    held = {named.get(split, split) for split, size in sizes.items() if size}
    return [split for split in SPLITS if split in held]


def shards_fingerprint(folder: str) -> str:
    """A digest of the folder's small files (index, report), which change when shards are built anew."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.json*")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
