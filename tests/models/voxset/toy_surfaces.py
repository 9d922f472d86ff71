"""A data plugin of tall and flat boxes and ellipsoids, as points on their surfaces. Tall blue boxes are held out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from maquette import hookimpl, plugins

CLASSES, COLORS, SIZES = ["box", "ball"], {"red": (0.8, 0.1, 0.1), "blue": (0.1, 0.2, 0.8)}, ("tall", "flat")
POINTS = 512


@dataclass
class ToySurfacesConfig:
    folder: str = "toy"
    batch_size: int = 8
    shuffle: bool = True
    fields: list[str] = field(default_factory=list)
    points: int = 0
    attributes: bool = False
    sources: list[dict[str, str]] = field(default_factory=list)
    count: int = 320


@dataclass(frozen=True)
class Toy:
    """One shape's words."""

    number: int

    @property
    def class_id(self) -> int:
        return self.number % 2

    @property
    def color(self) -> str:
        return list(COLORS)[self.number // 2 % 2]

    @property
    def size(self) -> str:
        return SIZES[self.number // 4 % 2]

    @property
    def split(self) -> str:
        if (self.class_id, self.color, self.size) == (0, "blue", "tall"):
            return "unseen_pairs"
        return "val" if self.number % 5 == 0 else "train"

    @property
    def caption(self) -> str:
        return f"a {self.size} {self.color} {CLASSES[self.class_id]}"


def surface(toy: Toy) -> tuple[Tensor, Tensor]:
    """Points and normals [P,3], a little larger or smaller by the shape's number."""
    generator = torch.Generator().manual_seed(toy.number)
    long, short = 0.3 + 0.1 * (toy.number * 0.37 % 1), 0.1 + 0.05 * (toy.number * 0.61 % 1)
    half = torch.tensor([short, long, short] if toy.size == "tall" else [long, short, long])
    normals = torch.randn(POINTS, 3, generator=generator)
    unit = normals / normals.norm(dim=1, keepdim=True)
    if toy.class_id == 1:
        outward = unit / half
        return unit * half, outward / outward.norm(dim=1, keepdim=True)
    side = torch.nn.functional.one_hot(torch.randint(3, (POINTS,), generator=generator), 3) * unit.sign()
    inside = torch.rand(POINTS, 3, generator=generator) * 2 - 1
    return torch.where(side != 0, side, inside) * half, side


def batch(toys: list[Toy], attributes: bool = True) -> dict[str, Any]:
    points, normals = zip(*(surface(toy) for toy in toys), strict=True)
    more = {"attributes": [{"color": toy.color, "size": toy.size} for toy in toys]} if attributes else {}
    return {
        "surface": torch.stack(points),
        "normals": torch.stack(normals),
        "surface_color": torch.stack([torch.tensor(COLORS[toy.color]).expand(POINTS, 3) for toy in toys]),
        "sharp": torch.empty(len(toys), 0, 3),
        "sharp_normals": torch.empty(len(toys), 0, 3),
        "class_id": torch.tensor([toy.class_id for toy in toys]),
        "caption": [toy.caption for toy in toys],
        "id": [f"toy-{toy.number}" for toy in toys],
        **more,
    }


class ToySurfaces(pl.LightningDataModule):
    """Ids in order."""

    def __init__(self, config: ToySurfacesConfig) -> None:
        super().__init__()
        self.config, self.consumed = config, 0

    def setup(self, stage: str | None = None) -> None:
        split = self.config.sources[0]["split"] if self.config.sources else "train"
        toys = [Toy(number) for number in range(self.config.count)]
        self.train, self.held_out = ([t for t in toys if t.split == name] for name in (split, "val"))

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        while True:
            positions = range(self.consumed, self.consumed + self.config.batch_size)
            self.consumed += self.config.batch_size
            yield batch([self.train[p % len(self.train)] for p in positions], self.config.attributes)

    def val_dataloader(self) -> list[dict[str, Any]]:
        size = self.config.batch_size
        parts = [self.held_out[i : i + size] for i in range(0, len(self.held_out), size)]
        return [batch(part, self.config.attributes) for part in parts]

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = state_dict["consumed"]

    def facts(self) -> dict[str, Any]:
        return {"classes": CLASSES, "vocabulary": ["a", *COLORS, *SIZES, *CLASSES]}


@hookimpl
def register_datasets(register: Any) -> None:
    register("toy_surfaces", ToySurfacesConfig, ToySurfaces)


def install() -> None:
    """Register the plugin with the process's manager, once."""
    if "toy_surfaces" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "toy_surfaces")
