"""A data plugin of boxes and balls with paint: red or blue with a white upper part, some of metal, some rough."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from maquette import hookimpl, plugins
from maquette.config import RunConfig, load
from maquette.runner import train

CLASSES, COLORS, FINISHES = ["box", "ball"], {"red": (0.8, 0.1, 0.1), "blue": (0.1, 0.2, 0.8)}, ("matt", "metal")
WHITE, POINTS = (0.9, 0.9, 0.9), 640
ABOVE = 0.15


@dataclass
class ToyPaintsConfig:
    folder: str = "toy"
    batch_size: int = 8
    shuffle: bool = True
    fields: list[str] = field(default_factory=list)
    points: int = 0
    sources: list[dict[str, str]] = field(default_factory=list)
    count: int = 64


@dataclass(frozen=True)
class Toy:
    """One shape's words; the last fifth is held out."""

    number: int

    @property
    def class_id(self) -> int:
        return self.number % 2

    @property
    def color(self) -> str:
        return list(COLORS)[self.number // 2 % 2]

    @property
    def finish(self) -> str:
        return FINISHES[self.number // 4 % 2]

    @property
    def caption(self) -> str:
        return f"a {self.finish} {self.color} {CLASSES[self.class_id]}"


def surface(toy: Toy) -> tuple[Tensor, Tensor]:
    """Points and normals [P,3], a little larger or smaller by the shape's number."""
    generator = torch.Generator().manual_seed(toy.number)
    half = torch.tensor([0.25, 0.4, 0.25]) * (0.8 + 0.3 * (toy.number * 0.37 % 1))
    normals = torch.randn(POINTS, 3, generator=generator)
    unit = normals / normals.norm(dim=1, keepdim=True)
    if toy.class_id == 1:
        outward = unit / half
        return unit * half, outward / outward.norm(dim=1, keepdim=True)
    side = torch.nn.functional.one_hot(torch.randint(3, (POINTS,), generator=generator), 3) * unit.sign()
    inside = torch.rand(POINTS, 3, generator=generator) * 2 - 1
    return torch.where(side != 0, side, inside) * half, side


def batch(toys: list[Toy]) -> dict[str, Any]:
    points, normals = (torch.stack(parts) for parts in zip(*(surface(toy) for toy in toys), strict=True))
    body = torch.tensor([COLORS[toy.color] for toy in toys])[:, None]
    above = points[..., 1:2] > ABOVE
    metal = torch.tensor([255 * (toy.finish == "metal") for toy in toys], dtype=torch.uint8)
    return {
        "surface": points,
        "normals": normals,
        "surface_color": torch.where(above, torch.tensor(WHITE), body),
        "surface_material": torch.stack([metal, 255 - metal], dim=-1)[:, None].expand(-1, POINTS, -1),
        "class_id": torch.tensor([toy.class_id for toy in toys]),
        "caption": [toy.caption for toy in toys],
        "id": [f"toy-{toy.number}" for toy in toys],
    }


class ToyPaints(pl.LightningDataModule):
    """Ids in order."""

    def __init__(self, config: ToyPaintsConfig) -> None:
        super().__init__()
        self.config, self.consumed = config, 0

    def setup(self, stage: str | None = None) -> None:
        toys = [Toy(number) for number in range(self.config.count)]
        kept = self.config.count * 4 // 5
        self.train, self.held_out = toys[:kept], toys[kept:]

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        while True:
            positions = range(self.consumed, self.consumed + self.config.batch_size)
            self.consumed += self.config.batch_size
            found = batch([self.train[place % len(self.train)] for place in positions])
            yield {**found, "position": torch.tensor(list(positions))}

    def val_dataloader(self) -> list[dict[str, Any]]:
        size = self.config.batch_size
        return [batch(self.held_out[start : start + size]) for start in range(0, len(self.held_out), size)]

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = state_dict["consumed"]

    def facts(self) -> dict[str, Any]:
        return {"classes": CLASSES, "vocabulary": ["a", *COLORS, *FINISHES, *CLASSES]}


@hookimpl
def register_datasets(register: Any) -> None:
    register("toy_paints", ToyPaintsConfig, ToyPaints)


def install() -> None:
    """Register the plugin with the process's manager, once."""
    if "toy_paints" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "toy_paints")


def train_all(root: Path, steps: int = 150) -> None:
    """Runs `autoencoder` and `flow` in a folder, the second with a pipeline; some ten seconds."""
    common = {
        "optimizer": {"learning_rate": 0.005, "warmup_steps": 10},
        "train": {"steps": steps, "ema_decays": [0.9]},
        "loggers": ["csv"],
    }
    facts = {name: f"${{facts:{name}}}" for name in ("latent_channels", "given_channels")}
    words = {name: f"${{facts:{name}}}" for name in ("classes", "vocabulary")}
    conditioner = {"name": "class_caption", "width": 32, "heads": 2, "max_words": 6, "drop_word": 0.0, **words}
    sizes = {"width": 32, "depth": 2, "heads": 2, "cross_every": 1, "conditioner": conditioner}
    autoencoder = str(root / "autoencoder")
    runs = {
        "autoencoder": {
            "data": {"name": "toy_paints"},
            "model": {"name": "paint_vae", "resolution": 4, "detail_channels": 6, "shape_channels": 4, "width": 32},
            "objective": {"name": "paint_vae", "queries": 128},
        },
        "flow": {
            "data": {"name": "paint_latents", "shards": "toy", "reader": "toy_paints", "autoencoder": autoencoder},
            "model": {"name": "token_dit", "resolution": "${facts:latent_resolution}", **facts, **sizes},
            "objective": {"name": "flow_matching", "mu": 0.5},
            "pipeline": {
                "name": "texture",
                "size": 64,
                "points": 4096,
                "stage": {"sampler": {"name": "euler", "steps": 8}, "guidance": 2.0},
            },
        },
    }
    runs["flow"]["data"]["batch_size"] = 16
    for name, block in runs.items():
        train(load(RunConfig, {"folder": str(root / name), **common, **block}))
