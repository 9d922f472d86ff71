"""Latents of a shard folder under a frozen autoencoder, as a dataset that resumes at the exact sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_models.endless_samples import EndlessSamples
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


class Latents(EndlessSamples):
    """Batches of `latent` [B,C,L,L,L] (zero mean and unit variance by channel), `class_id`, `caption`, `id` and
    `position` int64 [B], the place in the endless sequence, or among the held-out samples.
    """

    name = "latents"
    config: LatentsConfig

    def __init__(self, config: LatentsConfig) -> None:
        super().__init__(config, "latents")
        self.splits: dict[str, EncodedSplit] = {}
        self.adopted: Mapping[str, Any] = {}
        self.turns: Turns | None = None
        self.condition: ConditionFields | None = None

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
        self.check_shares()
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

    def batch(self, split: str, rows: list[int], positions: Sequence[int]) -> dict[str, Any]:
        """See `EndlessSamples`."""
        return self._batch(self.splits[split], rows, positions)

    def row(self, position: int) -> int:
        """The training row at a position of the endless sequence."""
        return super().row(position) if self.turns is None else self.turns.row(position)

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


def _renumbered(split: EncodedSplit, classes: Sequence[str], known: Sequence[str]) -> EncodedSplit:
    """With class ids that are places in `known`; -1 where a class is not among them."""
    places = {name: place for place, name in enumerate(known)}
    numbers = torch.tensor([places.get(name, -1) for name in classes])
    return replace(split, class_id=numbers[split.class_id])
