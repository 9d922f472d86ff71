"""One source's endless epochs, as numbers of samples."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.shards.reader import ShardReader
from maquette_data3d.stream.order import epoch_order


class Feed:
    """The samples of one split of one folder, epoch after epoch. A position counts samples from the first epoch on.

    Args:
        source: its place in the mixture.
        damaged: shards whose samples are passed over.

    Attributes:
        numbers: int64 [n], places in the index.
        tokens: int32 [n], sizes of these samples.
        usable: bool [n], false where the sample's shard is known to be damaged.
    """

    def __init__(
        self,
        reader: ShardReader,
        split: str,
        source: int,
        *,
        shuffle: str,
        seed: int = 0,
        window: int = 0,
        damaged: Sequence[int] = (),
    ) -> None:
        self.reader, self.source, self.seed = reader, source, seed
        self.shuffle, self.window = shuffle, window
        self.numbers = np.asarray(reader.split(split), np.int64)
        self.shards = np.asarray(reader.shard_of)[self.numbers]
        self.tokens = np.asarray(reader.tokens)[self.numbers]
        self.usable = ~np.isin(self.shards, damaged)
        self._whole = bool(self.usable.all())
        self._orders: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, position: int, count: int, most_tokens: int | None) -> tuple[np.ndarray, int, int]:
        """The next samples that may be delivered.

        Args:
            most_tokens: larger samples are passed over.

        Returns:
            positions int64 [count], the position after them, how many samples were passed over.

        Raises:
            MaquetteError: no sample of the split may be delivered.
        """
        if self._whole and most_tokens is None:
            return np.arange(position, position + count), position + count, 0
        allowed = self.usable if most_tokens is None else self.usable & (self.tokens <= most_tokens)
        if not allowed.any():
            limit = "" if most_tokens is None else f" of at most {most_tokens} tokens"
            raise MaquetteError(f"dataset 'shards': source {self.source} has no readable sample{limit}")
        found: list[np.ndarray] = []
        missing, place = count, position
        while missing:
            block = np.arange(place, place + max(2 * missing, 64))
            block = block[allowed[self.places(block)]][:missing]
            place = int(block[-1]) + 1 if len(block) == missing else place + max(2 * missing, 64)
            missing -= len(block)
            found.append(block)
        positions = np.concatenate(found) if found else np.empty(0, np.int64)
        return positions, place, place - position - count

    def places(self, positions: np.ndarray) -> np.ndarray:
        """Where in the split the samples at these positions are, int64 [n]."""
        epochs, places = np.divmod(positions, len(self))
        if len(epochs) and epochs.min() == epochs.max():
            only: np.ndarray = self._order(int(epochs[0]))[places]
            return only
        found = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs):
            rows = epochs == epoch
            found[rows] = self._order(int(epoch))[places[rows]]
        return found

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                order = epoch_order(self.shuffle, (self.seed, epoch, self.source), self.shards, self.window)
                kept = sorted(self._orders)[-1:]
                self._orders = {**{old: self._orders[old] for old in kept}, epoch: order}
            return self._orders[epoch]
