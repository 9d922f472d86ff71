"""The dataset `shards`: folders of shards as an endless, shuffled stream of batches with an exact position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_data3d.stream.batches import Assembler
from maquette_data3d.stream.buffers import Buffers
from maquette_data3d.stream.config import NAME, ShardsConfig, SourceConfig
from maquette_data3d.stream.damage import Damage
from maquette_data3d.stream.loading import Loader
from maquette_data3d.stream.plan import Batch, Buckets, Plan, Position
from maquette_data3d.stream.prefetch import ahead
from maquette_data3d.stream.sources import Sources

__all__ = ["Shards", "ShardsConfig", "SourceConfig"]


class Shards(pl.LightningDataModule):
    """Batches of folders of shards, read by memory mapping, in an order that (seed, epoch) alone decides.

    A batch holds the fields asked for as tensors [B, ...] (float32 unless `dtype` says stored; 8-bit colours in [0, 1]
    then; whole numbers as stored), `class_id` int64 [B], `caption` and `id`, `position` int64 [B], the place in the
    endless sequence or among the held-out samples, and `substitute` bool [B] where a sample could not be read and
    another stands in for it.

    All processes follow one plan and load their own rows of it, so batches are the same whoever shares them. The state
    is that of the last batch that was handed out: it continues with the next sample at any number of processes and
    threads, and without buckets at any batch size. Augmentation depends on the seed and the sample's position only.
    Shards that are missing when the folders are opened are passed over, which all processes must see alike.

    Attributes:
        record: told of what cannot be read, see `Damage`; whoever wants to know sets it before :meth:`setup`.
    """

    def __init__(self, config: ShardsConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.record: Callable[..., None] = lambda *_, **__: None
        self.rank, self.world = 0, 1
        self.loader: Loader | None = None
        self._start: dict[str, Any] = {"consumed": 0}
        self._position: Position | None = None

    def setup(self, stage: str | None = None) -> None:
        """Opens the folders.

        Raises:
            MaquetteError: a folder cannot be read or has no training samples, a batch cannot be shared, or too many
                shards are damaged.
        """
        if self.loader is None:
            self.sources = Sources(self.config)
            self.config = self.config.fitted(np.concatenate([feed.tokens for feed in self.sources.feeds]))
        sizes = self.config.sizes()
        for size in sizes.sizes if isinstance(sizes, Buckets) else (sizes,):
            if size % self.world:
                raise MaquetteError(f"{NAME}: batch_size {size} is no multiple of {self.world} processes")
        if self.loader is None:
            layouts = self.sources.layouts(self.config)
            windows = self.sources.windows(self.config, layouts)
            self._facts = self.sources.facts()
            buffers = Buffers(pinned=torch.cuda.is_available())
            resolution = int(self._facts.get("resolution", 0))
            assemble = Assembler(layouts, windows, resolution, self.config.ragged == "packed", buffers)
            damage = Damage(self.sources.feeds, self.config.damage_budget, self.record)
            curriculum = plugins.build("curricula", self.config.curriculum) if self.config.curriculum else None
            weights = [source.weight for source in self.config.listed_sources()]
            self.plan = Plan(self.sources.feeds, weights, sizes, curriculum)
            self.loader = Loader(self.config, self.sources, assemble, damage)
            self._position = self.plan.restored(self._start)

    @property
    def consumed(self) -> int:
        """Samples that all processes together have been given."""
        return int(self.state_dict()["consumed"])

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        """This process's share of each batch, for ever, from the position on."""
        loader, position = self._opened()
        batches = ahead(lambda step: loader.training(step[0]), self._steps(position), self.config.prefetch)
        try:
            for (_, self._position), batch in batches:
                yield batch
        finally:
            batches.close()

    def val_dataloader(self) -> HeldOut:
        """This process's share of the held-out samples, once, in order, as they are."""
        loader, _ = self._opened()
        size = max(self.config.batch_size // self.world, 1)
        samples = loader.held_out()
        return HeldOut(loader, samples, range(self.rank, len(samples), self.world), size)

    def state_dict(self) -> dict[str, Any]:
        """The exact position, after the last batch that was handed out; plain data."""
        return self.plan.saved(self._position) if self._position else dict(self._start)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a position.

        Raises:
            MaquetteError: it knows more sources than there are.
        """
        self._start = dict(state_dict)
        if self._position:
            self._position = self.plan.restored(state_dict)

    def facts(self) -> dict[str, Any]:
        """What the shards say of themselves: classes, vocabulary, resolution, sizes of the splits, ..."""
        self._opened()
        return dict(self._facts)

    def stored_fields(self) -> list[str]:
        """Names of the arrays that every folder stores: what `fields` can ask for."""
        self._opened()
        return sorted(set.intersection(*(set(reader.fields) for reader in self.sources.folders)))

    def split_sizes(self) -> dict[str, int]:
        """How many samples each split of the folders has."""
        self._opened()
        names = sorted({name for reader in self.sources.folders for name in reader.about["splits"]})
        return {name: sum(len(reader.split(name)) for reader in self.sources.folders) for name in names}

    def _opened(self) -> tuple[Loader, Position]:
        if self.loader is None or self._position is None:
            raise MaquetteError(f"{NAME}: call setup() first")
        return self.loader, self._position

    def _steps(self, position: Position) -> Iterator[tuple[Batch, Position]]:
        while True:
            batch, position = self.plan.next(position)
            yield batch.share(self.rank, self.world), position


class HeldOut:
    """The validation batches of one process, read anew each time they are gone through."""

    def __init__(self, loader: Loader, samples: Sequence[tuple[int, int]], own: range, size: int) -> None:
        self.loader, self.samples, self.own, self.size = loader, samples, own, size

    def __len__(self) -> int:
        return (len(self.own) + self.size - 1) // self.size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self.own), self.size):
            numbers = self.own[start : start + self.size]
            batch = self.loader.as_stored([self.samples[number] for number in numbers])
            yield {**batch, "position": torch.tensor(list(numbers))}
