"""Samples in an endless order that resumes at the exact one: what datasets that lie in memory share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from torch import Tensor

from maquette.engine.randomness import fold
from maquette.errors import MaquetteError


class BatchesConfig(Protocol):
    """The keys that every such dataset has; `batch_size` counts the samples of all ranks together."""

    batch_size: int
    seed: int


class EndlessSamples(pl.LightningDataModule):
    """Batches of the training split for ever, and of the held-out one once.

    An epoch's order is a function of (seed, epoch) alone; the state is the number of samples consumed by all ranks.
    A subclass fills `splits`, "train" and "val", and makes batches of their rows.

    Args:
        config: of the dataset.
        order_name: of the randomness that epochs are shuffled with.

    Raises:
        MaquetteError: batches of no samples.
    """

    name: str
    config: BatchesConfig
    splits: Mapping[str, Any]

    def __init__(self, config: BatchesConfig, order_name: str) -> None:
        super().__init__()
        if config.batch_size < 1:
            raise MaquetteError(f"dataset '{self.name}': batch_size {config.batch_size}; it must be at least 1")
        self.config, self.order_name = config, order_name
        self.rank, self.world = 0, 1
        self.consumed = 0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def check_shares(self) -> None:
        """Refuse a batch that ranks cannot share.

        Raises:
            MaquetteError: it is none of so many equal parts.
        """
        if self.config.batch_size % self.world:
            raise MaquetteError(
                f"dataset '{self.name}': batch_size {self.config.batch_size} must be shared by {self.world}"
            )

    def batch(self, split: str, rows: list[int], positions: Sequence[int]) -> dict[str, Any]:
        """Some rows of a split; `positions` are their places in the endless sequence, or among the held-out samples."""
        raise NotImplementedError

    def arranged(self, order: Tensor) -> Tensor:
        """An epoch's order, int64 [N], from a random one."""
        return order

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        """This rank's share of each batch, for ever, from where the state is."""
        own = self.config.batch_size // self.world
        while True:
            positions = range(self.consumed + self.rank * own, self.consumed + (self.rank + 1) * own)
            self.consumed += self.config.batch_size
            yield self.batch("train", [self.row(position) for position in positions], positions)

    def val_dataloader(self) -> list[dict[str, Any]]:
        """This rank's share of the held-out samples, once, in order."""
        rows = list(range(self.rank, len(self.splits["val"]), self.world))
        size = self.config.batch_size
        return [self.batch("val", part, part) for part in (rows[i : i + size] for i in range(0, len(rows), size))]

    def row(self, position: int) -> int:
        """The training row at a position of the endless sequence."""
        epoch, place = divmod(position, len(self.splits["train"]))
        return int(self._epoch_order(epoch)[place])

    def state_dict(self) -> dict[str, Any]:
        """The exact position."""
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position, also with another batch size or number of ranks."""
        self.consumed = int(state_dict["consumed"])

    def _epoch_order(self, epoch: int) -> Tensor:
        """The last one is kept, since positions come in runs."""
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(fold(self.order_name, self.config.seed, epoch))
            self._order = (epoch, self.arranged(torch.randperm(len(self.splits["train"]), generator=generator)))
        return self._order[1]
