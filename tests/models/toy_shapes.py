"""A data plugin of balls and boxes at 16^3, and runs trained on them for a few steps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from maquette import hookimpl, plugins
from maquette.config import RunConfig, load
from maquette.runner import train

RESOLUTION = 16
CLASSES, COLORS = ["ball", "box"], {"red": (0.8, 0.1, 0.1), "blue": (0.1, 0.2, 0.8)}


@dataclass
class ToyShapesConfig:
    folder: str = "toy"
    batch_size: int = 4
    shuffle: bool = True
    count: int = 24


class ToyShapes(pl.LightningDataModule):
    """Ids 0..count-1 in order; every fourth is held out."""

    def __init__(self, config: ToyShapesConfig) -> None:
        super().__init__()
        self.config, self.rank, self.world, self.consumed = config, 0, 1, 0

    def setup(self, stage: str | None = None) -> None:
        numbers = range(self.config.count)
        self.train, self.held_out = [n for n in numbers if n % 4], [n for n in numbers if n % 4 == 0]

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        while True:
            positions = range(self.consumed, self.consumed + self.config.batch_size)
            self.consumed += self.config.batch_size
            yield batch([self.train[p % len(self.train)] for p in positions])

    def val_dataloader(self) -> list[dict[str, Any]]:
        size = self.config.batch_size
        return [batch(self.held_out[i : i + size]) for i in range(0, len(self.held_out), size)]

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = state_dict["consumed"]

    def facts(self) -> dict[str, Any]:
        return {"classes": CLASSES, "vocabulary": ["a", *COLORS, *CLASSES], "resolution": RESOLUTION}


def shape(number: int) -> tuple[Tensor, Tensor, int, str]:
    """tsdf [1,R,R,R], color [3,R/2,R/2,R/2], class and caption."""
    axis = (torch.arange(RESOLUTION) + 0.5) / RESOLUTION - 0.5
    where = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).abs()
    label, name = number % 2, list(COLORS)[number // 2 % 2]
    size = 0.2 + 0.2 * (number * 0.37 % 1)
    distance = where.norm(dim=0) if label == 0 else where.amax(dim=0)
    color = torch.tensor(COLORS[name]).view(3, 1, 1, 1).expand(3, *[RESOLUTION // 2] * 3)
    return ((distance - size) / 0.1).clamp(-1, 1)[None], color, label, f"a {name} {CLASSES[label]}"


def batch(numbers: list[int]) -> dict[str, Any]:
    tsdf, color, label, caption = zip(*(shape(n) for n in numbers), strict=True)
    return {
        "tsdf": torch.stack(tsdf),
        "color": torch.stack(color),
        "class_id": torch.tensor(label),
        "caption": list(caption),
        "id": [f"toy-{n}" for n in numbers],
    }


@hookimpl
def register_datasets(register: Any) -> None:
    register("toy_shapes", ToyShapesConfig, ToyShapes)


def install() -> None:
    """Register the plugin with the process's manager, once."""
    if "toy_shapes" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "toy_shapes")


def train_autoencoder(folder: Path, steps: int = 2) -> Path:
    """A run of a tiny autoencoder."""
    config = {
        "folder": str(folder),
        "data": {"name": "toy_shapes"},
        "model": {
            "name": "grid_vae",
            "resolution": "${facts:resolution}",
            "width": 8,
            "deep_width": 16,
            "color_width": 8,
            "shape_channels": 2,
            "color_channels": 1,
        },
        "objective": {"name": "vae"},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 2},
        "train": {"steps": steps, "ema_decays": [0.9]},
        "loggers": ["csv"],
    }
    return train(load(RunConfig, config)).path


def train_flow(folder: Path, autoencoder: Path, steps: int = 2) -> Path:
    """A run of a tiny flow on the autoencoder's latents, with a pipeline."""
    conditioner = {
        "name": "class_caption",
        "classes": "${facts:classes}",
        "vocabulary": "${facts:vocabulary}",
        "width": 16,
        "heads": 2,
        "max_words": 5,
    }
    config = {
        "folder": str(folder),
        "data": {"name": "latents", "reader": "toy_shapes", "shards": "toy", "autoencoder": str(autoencoder)},
        "model": {
            "name": "dit",
            "latent_channels": "${facts:latent_channels}",
            "latent_resolution": "${facts:latent_resolution}",
            "patch": 1,
            "width": 24,
            "heads": 2,
            "depth": 2,
            "conditioner": conditioner,
        },
        "objective": {"name": "flow_matching"},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 2},
        "train": {"steps": steps, "ema_decays": [0.9]},
        "pipeline": {"name": "text_to_3d", "sampler": {"name": "euler", "steps": 4}},
        "loggers": ["csv"],
    }
    return train(load(RunConfig, config)).path
