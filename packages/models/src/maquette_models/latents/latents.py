"""Latents of a shard folder under a frozen autoencoder, as a dataset that resumes at the exact sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import MISSING
from torch import Tensor

from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette_models.latents.condition_fields import ConditionFields, ConditionFieldsConfig
from maquette_models.latents.latent_cache import EncodedShards, EncodedSplit, encode_shards
from maquette_models.latents.other_data import Turns, finetuned_block
from maquette_models.shards import READER


@dataclass
class LatentsConfig:
    """`shards` is a folder that the dataset `reader` reads, `autoencoder` the folder of its autoencoder's run.

    `replay` is the share of the training samples that comes from `replay_shards`, so that a run that is finetuned on
    new shapes does not forget old ones. `condition` says what batches hold for the conditioner beside class and
    caption.
    """

    shards: str = MISSING
    autoencoder: str = MISSING
    batch_size: int = 32
    mirror: bool = True
    seed: int = 0
    reader: str = READER
    replay: float = 0.0
    replay_shards: str = ""
    condition: ConditionFieldsConfig = field(default_factory=ConditionFieldsConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.replay < 1:
            raise ValueError(f"'replay' is {self.replay}; it must be in [0, 1)")

    @staticmethod
    def finetuned(own: dict[str, Any], given: dict[str, Any], out: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `maquette.finetuning`."""
        return finetuned_block(own, given, out)


class Latents(pl.LightningDataModule):
    """Batches of `latent` [B,C,L,L,L] (zero mean and unit variance by channel), `class_id`, `caption`, `id` and
    `position` int64 [B], the place in the endless sequence, or among the held-out samples.

    An epoch's order is a function of (seed, epoch) alone; the state is the number of samples consumed by all
    ranks. `batch_size` counts the samples of all ranks together.
    """

    name = "latents"

    def __init__(self, config: LatentsConfig) -> None:
        super().__init__()
        if config.batch_size < 1:
            raise MaquetteError(f"dataset '{self.name}': batch_size {config.batch_size}; it must be at least 1")
        self.config = config
        self.rank, self.world = 0, 1
        self.consumed = 0
        self.splits: dict[str, EncodedSplit] = {}
        self.adopted: Mapping[str, Any] = {}
        self.turns: Turns | None = None
        self.condition: ConditionFields | None = None
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def adopt_facts(self, facts: Mapping[str, Any]) -> None:
        """Keep to the facts of an earlier run, whose weights are tied to its class ids and latent statistics.

        Called before `setup`, when a run is resumed or finetuned on other shards. Classes that the earlier
        run did not know become -1, no class.
        """
        self.adopted = facts

    def setup(self, stage: str | None = None) -> None:
        """Encode both splits, or read them from an earlier run's cache.

        Raises:
            MaquetteError: no training shapes, no such folder, or a batch that ranks cannot share.
        """
        if self.config.batch_size % self.world:
            raise MaquetteError(
                f"dataset '{self.name}': batch_size {self.config.batch_size} must be shared by {self.world}"
            )
        if not self.splits:
            encoded = self.read(self.config.shards)
            self.source_facts, self.splits = encoded.facts, encoded.splits
            if not len(self.splits["train"]):
                raise MaquetteError(f"dataset '{self.name}': '{self.config.shards}' has no training shapes")
            self.mean, self.std = self.statistics()
            if self.adopted:
                self._keep_to(self.adopted)
            if self.config.replay:
                self._mix_in()
            if self.config.condition.wanted():
                folders = [self.config.shards, *([self.config.replay_shards] if self.config.replay else [])]
                self.condition = ConditionFields(self.config.condition, folders, self.config.reader, self.config.seed)

    def read(self, shards: str) -> EncodedShards:
        """Both splits and the facts of a shard folder."""
        return encode_shards(shards, self.config.autoencoder, self.config.mirror, self.config.reader)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel [C] over the training latents."""
        latent = self.splits["train"].latent
        return latent.mean(dim=(0, 2, 3, 4)), latent.std(dim=(0, 2, 3, 4)).clamp(min=1e-6)

    def _keep_to(self, facts: Mapping[str, Any]) -> None:
        self.mean, self.std = (torch.tensor(facts[key]) for key in ("latent_mean", "latent_std"))
        classes = list(facts["classes"])
        self.splits = {name: _renumbered(s, self.source_facts["classes"], classes) for name, s in self.splits.items()}
        self.source_facts = {**self.source_facts, "classes": classes}

    def _mix_in(self) -> None:
        """Old training samples go behind the new ones; whose turn it is, `Turns` says."""
        config, new = self.config, self.splits["train"]
        encoded = self.read(config.replay_shards)
        old = _renumbered(encoded.splits["train"], encoded.facts["classes"], self.source_facts["classes"])
        self.turns = Turns(len(new), len(old), config.replay, "latents", config.seed)
        self.splits["train"] = new.followed_by(old)

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        """This rank's share of each batch, for ever, from where the state is."""
        train = self.splits["train"]
        own = self.config.batch_size // self.world
        while True:
            positions = range(self.consumed + self.rank * own, self.consumed + (self.rank + 1) * own)
            rows = [self.row(position) for position in positions]
            self.consumed += self.config.batch_size
            yield self._batch(train, rows, positions)

    def val_dataloader(self) -> list[dict[str, Any]]:
        """This rank's share of the held-out latents, once, in order."""
        held_out = self.splits["val"]
        rows = list(range(self.rank, len(held_out), self.world))
        size = self.config.batch_size
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        return [self._batch(held_out, part, part) for part in parts]

    def row(self, position: int) -> int:
        """The training row at a position of the endless sequence."""
        if self.turns is not None:
            return self.turns.row(position)
        epoch, place = divmod(position, len(self.splits["train"]))
        return int(self._epoch_order(epoch)[place])

    def state_dict(self) -> dict[str, Any]:
        """The exact position."""
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position, also with another batch size or number of ranks."""
        self.consumed = int(state_dict["consumed"])

    def facts(self) -> dict[str, Any]:
        """What the shards say of themselves, and the shape and statistics of the latents."""
        channels, side = self.splits["train"].latent.shape[1:3]
        latents = {"latent_channels": channels, "latent_resolution": side}
        return {
            **self.source_facts,
            **latents,
            "latent_mean": self.mean.tolist(),
            "latent_std": self.std.tolist(),
            **(self.condition.facts() if self.condition else {}),
        }

    def _batch(self, split: EncodedSplit, rows: list[int], positions: Sequence[int]) -> dict[str, Any]:
        mean, std = (value.view(1, -1, 1, 1, 1) for value in (self.mean, self.std))
        return {
            "latent": (split.latent[rows] - mean) / std,
            "class_id": split.class_id[rows],
            "caption": [split.caption[row] for row in rows],
            "id": [split.id[row] for row in rows],
            "position": torch.tensor(positions, dtype=torch.int64),
            **self._for_condition(split, rows, positions),
        }

    def _for_condition(self, split: EncodedSplit, rows: list[int], positions: Sequence[int]) -> dict[str, Any]:
        if self.condition is None:
            return {}
        side = "train" if split is self.splits["train"] else "val"
        return self.condition.batch(side, [split.id[row] for row in rows], positions)

    def _epoch_order(self, epoch: int) -> Tensor:
        """The epoch's permutation; the last one is kept, since positions come in runs."""
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(fold("latents", self.config.seed, epoch))
            self._order = (epoch, torch.randperm(len(self.splits["train"]), generator=generator))
        return self._order[1]


def _renumbered(split: EncodedSplit, classes: Sequence[str], known: Sequence[str]) -> EncodedSplit:
    """With class ids that are places in `known`; -1 where a class is not among them."""
    places = {name: place for place, name in enumerate(known)}
    numbers = torch.tensor([places.get(name, -1) for name in classes])
    return replace(split, class_id=numbers[split.class_id])
