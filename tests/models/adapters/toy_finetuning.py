"""A toy run and another toy dataset to finetune it on: balls, boxes, and pyramids, which the run has never seen."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maquette import hookimpl, plugins
from tests.models import toy_shapes as toy

MARKER = "pyramids.json"


@dataclass
class PyramidsConfig(toy.ToyShapesConfig):
    """`finetuned` writes down that a folder is of pyramids; the shapes come out of their numbers."""

    @staticmethod
    def finetuned(own: dict[str, Any], given: dict[str, Any], out: str) -> tuple[dict[str, Any], dict[str, Any]]:
        Path(out).mkdir(parents=True, exist_ok=True)
        (Path(out) / MARKER).write_text(json.dumps(given))
        return {**own, "folder": out}, {}


class Pyramids(toy.ToyShapes):
    """Classes "box" and "pyramid"; captions name a colour and "tip", which the toy run's vocabulary lacks."""

    def train_dataloader(self) -> Any:
        return map(pointed, super().train_dataloader()) if self.new else super().train_dataloader()

    def val_dataloader(self) -> Any:
        return [pointed(part) for part in super().val_dataloader()] if self.new else super().val_dataloader()

    @property
    def new(self) -> bool:
        return (Path(self.config.folder) / MARKER).is_file()

    def facts(self) -> dict[str, Any]:
        if not self.new:
            return super().facts()
        return {"classes": ["box", "pyramid"], "vocabulary": ["a", "red", "blue", "pyramid", "tip"], "resolution": 16}


def pointed(batch: dict[str, Any]) -> dict[str, Any]:
    axis = (torch.arange(toy.RESOLUTION) + 0.5) / toy.RESOLUTION - 0.5
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    distance = torch.maximum((x.abs() + z.abs() + y - 0.2) / 1.7, -y - 0.3)
    colors = ["red" if "red" in caption else "blue" for caption in batch["caption"]]
    return {
        **batch,
        "tsdf": (distance / 0.1).clamp(-1, 1).expand_as(batch["tsdf"]).clone(),
        "class_id": torch.ones_like(batch["class_id"]),
        "caption": [f"a {color} pyramid with a tip" for color in colors],
        "id": [f"new-{name}" for name in batch["id"]],
    }


@hookimpl
def register_datasets(register: Any) -> None:
    register("pyramids", PyramidsConfig, Pyramids)


def install() -> None:
    """Register this plugin and the toy shapes, once."""
    toy.install()
    if "pyramids" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "pyramids")
