"""A dataset, an architecture and an objective that train in a blink; a loose-file plugin as a user's would be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from maquette import hookimpl
from maquette.parallel.strategy import Strategy


@dataclass
class ToyDataConfig:
    """Noise of ``width`` numbers."""

    width: int = 4
    batch_size: int = 8


class ToyData(pl.LightningDataModule):
    """Endless batches that are a function of how many samples were consumed."""

    rank, world = 0, 1

    def __init__(self, config: ToyDataConfig) -> None:
        super().__init__()
        self.config, self.consumed = config, 0

    def facts(self) -> dict[str, Any]:
        return {"width": self.config.width}

    def batch(self, position: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(position)
        x = torch.randn(self.config.batch_size, self.config.width, generator=generator)
        return {"x": x[self.rank :: self.world]}

    def train_dataloader(self) -> Iterator[dict[str, Tensor]]:
        while True:
            position = self.consumed
            self.consumed += self.config.batch_size
            yield self.batch(position)

    def val_dataloader(self) -> Iterator[dict[str, Tensor]]:
        yield self.batch(-1)
        yield self.batch(-2)

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = state_dict["consumed"]


@dataclass
class ToyModelConfig:
    """An autoencoder with dropout."""

    width: int = 4
    hidden: int = 3
    dropout: float = 0.1


class ToyModel(nn.Module):
    """Two linear layers."""

    def __init__(self, config: ToyModelConfig) -> None:
        super().__init__()
        # Channels-last on purpose: a resumed optimizer state must take over a parameter's strides.
        self.conv = nn.Conv2d(2, 2, 3, padding=1).to(memory_format=torch.channels_last)
        self.layers = nn.Sequential(
            nn.Linear(config.width, config.hidden), nn.Dropout(config.dropout), nn.Linear(config.hidden, config.width)
        )

    def blocks(self) -> list[nn.Module]:
        return list(self.layers)

    def tensor_parallel_plan(self) -> dict[str, str]:
        return {"layers.0": "colwise", "layers.2": "rowwise"}

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.conv(x.view(len(x), 2, -1, 1)).reshape(x.shape)


@dataclass
class ToyObjectiveConfig:
    """How noisy the input is; ``break_at`` makes the loss infinite at that call."""

    noise: float = 0.1
    break_at: int = -1


class ToyObjective:
    """Mean squared error of a denoiser."""

    def __init__(self, config: ToyObjectiveConfig) -> None:
        self.config, self.calls = config, 0

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = batch["x"]
        loss = (model(x + self.config.noise * torch.randn_like(x)) - x).square().mean()
        self.calls += 1
        return {"loss": loss * float("inf") if self.calls == self.config.break_at else loss, "twice": 2 * loss}


@dataclass
class MutedConfig:
    """By what every gradient is multiplied."""

    factor: float = 0.0


class Muted(Strategy):
    """A strategy that scales the gradients, to show that strategies have the last word on them."""

    def __init__(self, config: MutedConfig) -> None:
        self.config = config

    def reduce_gradients(self, model: nn.Module, mesh: Any) -> None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad *= self.config.factor


@hookimpl
def register_strategies(register: Any) -> None:
    register("muted", MutedConfig, Muted)


@hookimpl
def register_datasets(register: Any) -> None:
    register("toy", ToyDataConfig, ToyData)


@hookimpl
def register_architectures(register: Any) -> None:
    register("toy", ToyModelConfig, ToyModel)


@hookimpl
def register_objectives(register: Any) -> None:
    register("toy", ToyObjectiveConfig, ToyObjective)
