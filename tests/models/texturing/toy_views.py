"""A data plugin of red and blue spheres and boxes, as pictures from two sides, and a run that is trained on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from maquette import hookimpl, plugins
from maquette.config import RunConfig, load
from maquette.runner import train
from maquette_models.texturing.view_cameras import around, spread
from maquette_models.texturing.view_maps import corner_normals, view_maps
from tests.models.texturing import painted_shapes

CLASSES, COLORS = ["globe", "box"], {"red": (0.8, 0.1, 0.1), "blue": (0.1, 0.2, 0.8)}
SIZE, VIEWS = 16, 2
FINISH = {"globe": (0.0, 0.8), "box": (1.0, 0.3)}


@dataclass
class ToyViewsConfig:
    folder: str = "toy"
    batch_size: int = 8
    shuffle: bool = True
    fields: list[str] = field(default_factory=list)
    points: int = 0
    sources: list[dict[str, str]] = field(default_factory=list)
    count: int = 24


def mesh_of(number: int) -> Any:
    """A sphere or a box, a little larger or smaller by its number."""
    grown = 0.3 + 0.1 * (number * 0.37 % 1)
    if number % 2 == 0:
        return painted_shapes.globe(grown, rows=8, columns=16)
    return painted_shapes.box([-grown, -0.2, -grown], [grown, 0.2, grown])


@cache
def sample(number: int) -> dict[str, Any]:
    """What shards with the feature `views` hold of a shape."""
    mesh, kind, color = mesh_of(number), CLASSES[number % 2], list(COLORS)[number // 2 % 2]
    maps = view_maps(mesh, corner_normals(mesh), around(spread(VIEWS, turn=float(number)), 0.6), SIZE)
    shown = maps.covered[:, None].float() * 255
    paint = torch.tensor([*COLORS[color], *FINISH[kind]])[:, None, None]
    attributes = (shown * paint).round().to(torch.uint8)
    return {
        "view_position": maps.position,
        "view_normal": maps.normal,
        "view_albedo": attributes[:, :3],
        "view_material": attributes[:, 3:],
        "class_id": torch.tensor(number % 2),
        "caption": f"a {color} {kind}",
        "id": f"toy-{number}",
    }


class ToyViews(pl.LightningDataModule):
    """Ids in order; every sixth is held out."""

    def __init__(self, config: ToyViewsConfig) -> None:
        super().__init__()
        self.config, self.consumed = config, 0

    def setup(self, stage: str | None = None) -> None:
        self.held_out = [number for number in range(self.config.count) if number % 6 == 5]
        self.train = [number for number in range(self.config.count) if number % 6 != 5]

    def batch(self, numbers: list[int]) -> dict[str, Any]:
        parts = [sample(number) for number in numbers]
        whole = {key: [part[key] for part in parts] for key in parts[0]}
        return {key: torch.stack(v) if isinstance(v[0], torch.Tensor) else v for key, v in whole.items()}

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        while True:
            places = range(self.consumed, self.consumed + self.config.batch_size)
            self.consumed += self.config.batch_size
            yield self.batch([self.train[place % len(self.train)] for place in places])

    def val_dataloader(self) -> list[dict[str, Any]]:
        return [self.batch(self.held_out)]

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = state_dict["consumed"]

    def facts(self) -> dict[str, Any]:
        return {"classes": CLASSES, "vocabulary": ["a", *COLORS, *CLASSES]}


@hookimpl
def register_datasets(register: Any) -> None:
    register("toy_views", ToyViewsConfig, ToyViews)


def install() -> None:
    """Register the plugin with the process's manager, once."""
    if "toy_views" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "toy_views")


def block(**changes: Any) -> dict[str, Any]:
    """The dataset of tokens."""
    shards = {"shards": "toy", "reader": "toy_views", "batch_size": 8}
    return {"name": "view_textures", "patch": 4, "resolution": 16, **shards, **changes}


def train_run(root: Path, steps: int) -> Path:
    """A run of the pipeline `view_texture`."""
    facts = {name: f"${{facts:{name}}}" for name in ("latent_channels", "given_channels", "tokens")}
    conditioner = {"classes": "${facts:classes}", "vocabulary": "${facts:vocabulary}", "width": 32, "max_words": 4}
    stage = {"sampler": {"name": "euler", "steps": 6}}
    config = {
        "name": "views",
        "data": block(),
        "model": {
            "name": "token_dit",
            **facts,
            "resolution": "${facts:latent_resolution}",
            "width": 32,
            "depth": 2,
            "heads": 2,
            "prediction": "x0",
            "conditioner": {"name": "class_caption", **conditioner},
        },
        "objective": {"name": "flow_matching", "prediction": "x0", "mu": 1.0},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 5},
        "train": {"steps": steps, "ema_decays": [0.9], "validate_every": 0},
        "loggers": ["csv"],
        "pipeline": {"name": "view_texture", "size": 64, "candidates": 8, "stage": stage},
        "folder": str(root / "views"),
    }
    train(load(RunConfig, config))
    return root / "views"
