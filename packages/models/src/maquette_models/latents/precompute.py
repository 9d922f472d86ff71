"""Runs a frozen encoder once over a shard folder, so that training need not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.progress import track
from maquette_models.conditioners.frozen_part import FrozenPart
from maquette_models.latents.stored_embeddings import MIRRORED, Embedded, write_embeddings
from maquette_models.shards import READER, read_shards


def precompute(
    block: Mapping[str, Any], shards: str, out: str | Path, mirror: bool = True, reader: str = READER
) -> int:
    """Store what a conditioner's encoder gives of every wording or picture of a folder; returns how many samples.

    Args:
        block: of the conditioner, e.g. {name: clip_text, path: FOLDER}.
        shards: what the dataset `reader` reads.
        out: a folder that does not exist.
        mirror: of pictures, also those of the twins mirrored along x, which `latents` trains on by default.
        reader: the registered dataset.

    Raises:
        MaquetteError: the conditioner has no frozen encoder, its weights or what it reads of the shards are not there.
    """
    conditioner = plugins.build("conditioners", block).eval()
    if not isinstance(conditioner, FrozenPart):
        raise MaquetteError(f"conditioner '{block['name']}' has no frozen encoder whose outputs could be stored")
    samples = _of_captions if conditioner.per_caption else _of_pictures
    found = (one for split in ("train", "val") for one in samples(conditioner, shards, split, reader, mirror))
    return write_embeddings(out, conditioner.name, conditioner.per_caption, found)


def _of_captions(conditioner: FrozenPart, shards: str, split: str, reader: str, mirror: bool) -> Iterator[Embedded]:
    """Every wording; a mirrored twin has the captions of its sample."""
    for batch in track(read_shards(shards, split, reader, [], attributes=True), f"Encoding captions of {split}"):
        for name, caption, more in zip(batch["id"], batch["caption"], batch["attributes"], strict=True):
            embedding, mask = conditioner.embed([caption, *more.get("paraphrases", ())])
            yield Embedded(name, embedding.cpu(), mask.cpu())


def _of_pictures(conditioner: FrozenPart, shards: str, split: str, reader: str, mirror: bool) -> Iterator[Embedded]:
    """Every picture, and of training samples its mirror image."""
    for batch in track(read_shards(shards, split, reader, ["view_rgb"]), f"Encoding pictures of {split}"):
        for name, views in zip(batch["id"], batch["view_rgb"], strict=True):
            embedding, mask = conditioner.embed(views.float())
            yield Embedded(name, embedding.cpu(), mask.cpu())
            if mirror and split == "train":
                embedding, mask = conditioner.embed(views.float().flip(-1))
                yield Embedded(name + MIRRORED, embedding.cpu(), mask.cpu())
