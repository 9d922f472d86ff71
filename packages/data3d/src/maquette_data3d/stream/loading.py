"""Loads one process's rows of a batch, with other samples in the stead of unreadable ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from maquette.errors import MaquetteError
from maquette_data3d.shards.reader import ShardReader
from maquette_data3d.stream.batches import Assembler, Row, Views
from maquette_data3d.stream.config import NAME, ShardsConfig
from maquette_data3d.stream.curriculum import Stage
from maquette_data3d.stream.damage import Damage
from maquette_data3d.stream.order import draws
from maquette_data3d.stream.plan import Batch, Buckets
from maquette_data3d.stream.sources import Sources

_WINDOW, _MIRROR, _WORDING = 1, 2, 3  # the purposes of draws, see `order.draws`


class Loader:
    """Gives batches of tensors for rows of the plan. Threads may share it."""

    def __init__(self, config: ShardsConfig, sources: Sources, assemble: Assembler, damage: Damage) -> None:
        self.config, self.sources, self.assemble, self.damage = config, sources, assemble, damage
        self.names = [layout.name for layout in assemble.layouts]
        sizes = config.sizes()
        self.buckets = sizes if isinstance(sizes, Buckets) else None

    def training(self, share: Batch) -> dict[str, Any]:
        """The rows of one process, augmented.

        Raises:
            MaquetteError: more samples than the budget allows cannot be read.
        """
        starts = draws(self.config.seed, _WINDOW, share.source, share.position).tolist()
        flips = [False] * len(starts)
        if self.config.mirror:
            flips = ((draws(self.config.seed, _MIRROR, share.source, share.position) >> np.uint64(63)) == 1).tolist()
        rows, samples, replaced = [], [], []
        keys = zip(share.source.tolist(), share.position.tolist(), share.place.tolist(), starts, flips, strict=True)
        for source, position, place, start, flip in keys:
            views, found = self._read_or_replace(source, position, place, share.stage)
            rows.append(Row(views, start, flip))
            samples.append((source, int(self.sources.feeds[source].numbers[found])))
            replaced.append(found != place)
        batch = self._batch(rows, samples, share.stage)
        if self.config.paraphrases:
            wordings = draws(self.config.seed, _WORDING, share.source, share.position).tolist()
            batch["caption"] = [self._wording(*key, draw) for key, draw in zip(samples, wordings, strict=True)]
        if any(replaced):
            batch["substitute"] = torch.tensor(replaced)
        batch["position"] = torch.arange(share.first, share.first + len(samples))
        return batch

    def as_stored(self, samples: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """A batch of samples as they are, with their first points, by (source, number in its index).

        Raises:
            MaquetteError: one of them cannot be read.
        """
        rows = [Row(self._views(self.sources.readers[source], number)) for source, number in samples]
        return self._batch(rows, samples, Stage())

    def held_out(self) -> list[tuple[int, int]]:
        """The validation samples of all folders, each folder once, as (source, number); damaged shards left out."""
        found = []
        for reader in self.sources.folders:
            numbers = reader.split("validation")
            readable = numbers[~np.isin(reader.shard_of[numbers], self.sources.damaged[reader])]
            source = self.sources.readers.index(reader)
            found += [(source, number) for number in readable.tolist()]
        return found

    def _read_or_replace(self, source: int, position: int, place: int, stage: Stage) -> tuple[Views, int]:
        """The arrays of a sample or of its substitute, and its place in the split."""
        feed = self.sources.feeds[source]
        try:
            return self._views(feed.reader, int(feed.numbers[place])), place
        except (MaquetteError, OSError) as error:
            self.damage.record(source, place, str(error))
        allowed = feed.usable.copy()
        if stage.most_tokens is not None:
            allowed &= feed.tokens <= stage.most_tokens
        if self.buckets:
            allowed &= self.buckets.of(feed.tokens) == self.buckets.of(feed.tokens[place : place + 1])
        for other in self.damage.substitutes(source, position, allowed).tolist():
            try:
                return self._views(feed.reader, int(feed.numbers[other])), other
            except (MaquetteError, OSError) as error:
                self.damage.record(source, other, str(error))
        name = feed.reader.index.value("id", int(feed.numbers[place]))
        raise MaquetteError(f"{NAME}: neither sample '{name}' nor any of its substitutes can be read")

    def _wording(self, source: int, number: int, draw: int) -> str:
        """One of a sample's captions."""
        entry = self.sources.readers[source].entry(number)
        wordings = [entry.caption, *entry.attributes.get("paraphrases", ())]
        return str(wordings[draw % len(wordings)])

    def _views(self, reader: ShardReader, number: int) -> Views:
        if self.config.verify:
            reader.verify(number)
        return {name: reader.array(number, name) for name in self.names}

    def _batch(self, rows: Sequence[Row], samples: Sequence[tuple[int, int]], stage: Stage) -> dict[str, Any]:
        readers, class_ids = self.sources.readers, self.sources.class_ids
        texts = [(readers[source].index, number) for source, number in samples]
        return {
            "id": [index.value("id", number) for index, number in texts],
            "caption": [index.value("caption", number) for index, number in texts],
            "class_id": torch.tensor([int(class_ids[source][number]) for source, number in samples]),
            **self._told(samples),
            **self.assemble(rows, stage),
        }

    def _told(self, samples: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """What the index says of samples beside their captions, where it is asked for."""
        entries = [self.sources.readers[source].entry(number) for source, number in samples]
        attributes = {"attributes": [entry.attributes for entry in entries]} if self.config.attributes else {}
        parts = {"part_names": [entry.part_names for entry in entries]} if self.config.part_names else {}
        return {**attributes, **parts}
