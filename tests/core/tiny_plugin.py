"""A transformer, its objective and a dataset that knows each sample's place: what layouts are changed under."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from maquette import hookimpl
from maquette.testing import TinyObjective, TinyTransformer, tiny_batch


@dataclass
class TinyDataConfig:
    """``batch_size`` of all ranks together; ``seen`` is a folder where each rank notes what it was given."""

    batch_size: int = 8
    seen: str = ""
    bad: list[int] = field(default_factory=list)


class TinyData(pl.LightningDataModule):
    """Endless samples by their place in the sequence; those in ``bad`` are not finite."""

    rank, world = 0, 1

    def __init__(self, config: TinyDataConfig) -> None:
        super().__init__()
        self.config, self.consumed = config, 0

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        own = self.config.batch_size // self.world
        while True:
            first = self.consumed + self.rank * own
            self.consumed += self.config.batch_size
            batch = tiny_batch(own, first=first)
            for row, place in enumerate(batch["position"].tolist()):
                if place in self.config.bad:
                    batch["x"][row] = torch.inf
                if self.config.seen:
                    with Path(self.config.seen, f"{place:06d}").open("a") as file:
                        file.write(f"{batch['x'][row].sum():.9e}\n")
            yield batch

    def val_dataloader(self) -> Iterator[dict[str, Any]]:
        for index in range(self.rank, 5, self.world):
            yield tiny_batch(1, first=10_000 + index)

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = int(state_dict["consumed"])


@dataclass
class TinyModelConfig:
    """Sizes."""

    width: int = 16
    depth: int = 4


@dataclass
class TinyObjectiveConfig:
    """Nothing to say."""


@hookimpl
def register_datasets(register: Any) -> None:
    register("tiny", TinyDataConfig, TinyData)


@hookimpl
def register_architectures(register: Any) -> None:
    register("tiny", TinyModelConfig, lambda config: TinyTransformer(config.width, config.depth))


@hookimpl
def register_objectives(register: Any) -> None:
    register("tiny", TinyObjectiveConfig, lambda config: TinyObjective())
