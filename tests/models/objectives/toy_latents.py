"""A dataset of latents of two classes, and tiny flows trained on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from maquette import hookimpl, plugins
from maquette.config import RunConfig, load
from maquette.runner import train

CONDITIONER = {"name": "class_caption", "classes": ["low", "high"], "width": 16, "heads": 2, "max_words": 2}
MODEL = {
    "name": "dit",
    "latent_channels": 1,
    "latent_resolution": 4,
    "width": 32,
    "depth": 2,
    "conditioner": CONDITIONER,
}


@dataclass
class ToyLatentsConfig:
    """Samples a batch."""

    batch_size: int = 16


class ToyLatents(pl.LightningDataModule):
    """Latents [B,1,4,4,4] about -1 (class 0) and about 1 (class 1); sample i depends on i alone."""

    rank, world = 0, 1

    def __init__(self, config: ToyLatentsConfig) -> None:
        super().__init__()
        self.config, self.consumed = config, 0

    def batch(self, first: int) -> dict[str, Any]:
        numbers = torch.arange(first, first + self.config.batch_size)
        rows = [torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(int(i))) for i in numbers]
        centres = (numbers % 2 * 2 - 1).view(-1, 1, 1, 1, 1)
        return {"latent": centres + 0.3 * torch.stack(rows), "class_id": numbers % 2, "position": numbers}

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        while True:
            self.consumed += self.config.batch_size
            yield self.batch(self.consumed - self.config.batch_size)

    def val_dataloader(self) -> list[dict[str, Any]]:
        return [self.batch(10**6)]

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = state_dict["consumed"]


@hookimpl
def register_datasets(register: Any) -> None:
    register("toy_latents", ToyLatentsConfig, ToyLatents)


def install() -> None:
    """Register the plugin with the process's manager, once."""
    if "toy_latents" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "toy_latents")


def config(folder: Path, steps: int, objective: dict[str, Any], **keys: Any) -> Any:
    """The configuration of a run of a tiny model; `keys` go on top."""
    model = {**MODEL, "guidance_embedding": "teacher" in objective}
    defaults = {
        "folder": str(folder),
        "data": {"name": "toy_latents"},
        "model": model,
        "objective": objective,
        "optimizer": {"learning_rate": 0.005, "warmup_steps": 2},
        "train": {"steps": steps, "ema_decays": [0.9], "log_every": 1, "threads": 1},
        "loggers": ["csv"],
    }
    return load(RunConfig, defaults, keys)


def train_toy(folder: Path, steps: int, objective: dict[str, Any], **keys: Any) -> Path:
    """A trained run of it."""
    return train(config(folder, steps, objective, **keys)).path
