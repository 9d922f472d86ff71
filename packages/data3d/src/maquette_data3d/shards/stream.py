"""A folder of shards as an endless, shuffled stream of batches with an exact position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor

from maquette.errors import MaquetteError, unknown_name
from maquette_data3d.shards.arrays import FIELDS
from maquette_data3d.shards.reader import ShardReader

_POINTS = ("surface", "normals")
_READABLE = tuple(name for name in FIELDS if name != "class_id")


@dataclass
class ShardsConfig:
    """`folder` is one that `maquette data build` wrote."""

    folder: str = MISSING
    batch_size: int = 16
    """Samples a batch over all processes together."""
    fields: list[str] = field(default_factory=lambda: ["tsdf", "color"])
    """Which arrays to read: tsdf, color, surface, normals."""
    points: int = 2048
    """Surface points a sample, of those stored: a random window of an order that is random already."""
    shuffle: bool = True
    mirror: bool = False
    """Flips half of the training samples along x."""
    verify: bool = False
    """Compares each sample with its checksum when it is first read."""
    seed: int = 0
    """Of the order of the epochs and of the augmentation."""


class Shards(pl.LightningDataModule):
    """Batches of a folder of shards, read by memory mapping, in an order that (seed, epoch) alone decides.

    The state is the number of samples that all processes have consumed together: it continues with the next
    sample at any batch size and any number of processes. Augmentation depends on (seed, epoch, sample) only.
    Reading is mapping, and worker processes would be slower than none.
    """

    def __init__(self, config: ShardsConfig) -> None:
        super().__init__()
        if config.batch_size < 1 or config.points < 1:
            raise MaquetteError("dataset 'shards': batch_size and points must be at least 1")
        for name in config.fields:
            if name not in _READABLE:
                raise unknown_name("field", name, _READABLE, where="in dataset 'shards'")
        self.config = config
        self.rank, self.world = 0, 1
        self.consumed = 0
        self.reader: ShardReader | None = None
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def setup(self, stage: str | None = None) -> None:
        """Opens the index.

        Raises:
            MaquetteError: the folder cannot be read or has no training samples, or a batch cannot be shared.
        """
        if self.config.batch_size % self.world:
            raise MaquetteError(
                f"dataset 'shards': batch_size {self.config.batch_size} is no multiple of {self.world} processes"
            )
        if self.reader is None:
            self.reader = ShardReader(self.config.folder)
            self.train, self.validation = (self.reader.split(name) for name in ("train", "validation"))
            if not self.train:
                raise MaquetteError(f"dataset 'shards': '{self.config.folder}' has no training samples")
            stored = int(self.reader.about["points"])
            if any(name in _POINTS for name in self.config.fields) and self.config.points > stored:
                raise MaquetteError(
                    f"dataset 'shards': points {self.config.points}, but '{self.config.folder}' stores {stored}"
                )

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        """This process's share of each batch, for ever, from the position on."""
        own = self.config.batch_size // self.world
        while True:
            first = self.consumed + self.rank * own
            samples = [self._training_sample(position) for position in range(first, first + own)]
            self.consumed += self.config.batch_size
            yield _batch(samples)

    def val_dataloader(self) -> _Once:
        """This process's share of the held-out samples, once, in order, as they are."""
        return _Once(self)

    def state_dict(self) -> dict[str, Any]:
        """The exact position."""
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a position."""
        self.consumed = int(state_dict["consumed"])

    def facts(self) -> dict[str, Any]:
        """What the shards say of themselves: classes, vocabulary, resolution, sizes of the splits, ..."""
        about = self._opened().about
        names = ("classes", "vocabulary", "resolution", "color_resolution", "truncation")
        counts = {"train_samples": len(self.train), "validation_samples": len(self.validation)}
        return {**{name: about[name] for name in names}, **counts}

    def sample(self, number: int, flip: bool = False, window: int = 0) -> dict[str, Any]:
        """One stored sample as tensors, by its place in the index.

        Args:
            flip: mirror it along x.
            window: first surface point to read.
        """
        reader = self._opened()
        if self.config.verify:
            reader.verify(number)
        entry = reader.entries[number]
        found: dict[str, Any] = {"id": entry.id, "caption": entry.caption}
        found["class_id"] = torch.tensor(int(reader.array(number, "class_id")))
        for name in self.config.fields:
            array = reader.array(number, name)
            if name in _POINTS:
                array = array[window : window + self.config.points]
            found[name] = _tensor(name, array, flip)
        return found

    def _opened(self) -> ShardReader:
        if self.reader is None:
            raise MaquetteError("dataset 'shards': call setup() first")
        return self.reader

    def _training_sample(self, position: int) -> dict[str, Any]:
        epoch, place = divmod(position, len(self.train))
        number = self.train[int(self._epoch_order(epoch)[place])]
        # Keyed by what it is for, not by history: a resumed run draws the same.
        rng = _generator(self.config.seed, 1, epoch, number)
        flip = self.config.mirror and bool(rng.integers(2))
        spare = int(self._opened().about["points"]) - self.config.points
        return self.sample(number, flip, int(rng.integers(spare + 1)) if spare > 0 else 0)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            count = len(self.train)
            order = (
                _generator(self.config.seed, 0, epoch).permutation(count) if self.config.shuffle else np.arange(count)
            )
            self._order = (epoch, order)
        return self._order[1]


class _Once:
    """The validation batches of one process, read anew each time they are gone through."""

    def __init__(self, data: Shards) -> None:
        self.data = data
        self.own = data.validation[data.rank :: data.world]
        self.size = max(data.config.batch_size // data.world, 1)

    def __len__(self) -> int:
        return (len(self.own) + self.size - 1) // self.size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self.own), self.size):
            yield _batch([self.data.sample(number) for number in self.own[start : start + self.size]])


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _tensor(name: str, array: np.ndarray, flip: bool) -> Tensor:
    """float32; colours in [0, 1]; mirrored along x where asked."""
    if name in _POINTS:
        values = array.astype(np.float32)
        if flip:
            values[:, 0] *= -1.0
        return torch.from_numpy(values)
    if flip:
        array = array[:, ::-1]
    values = array.astype(np.float32)
    return torch.from_numpy(values / np.float32(255) if name == "color" else values)


def _batch(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Tensors stacked, texts in lists."""
    first = samples[0]
    return {
        key: torch.stack([s[key] for s in samples]) if isinstance(value, Tensor) else [s[key] for s in samples]
        for key, value in first.items()
    }
