"""A data plugin of balls and boxes at 16^3 with pictures, cameras, points and wordings, and runs trained on them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maquette import hookimpl, plugins
from maquette.config import RunConfig, load
from maquette.runner import train
from tests.models import toy_shapes as toy

SIDE, VIEWS, POINTS = 16, 3, 64


@dataclass
class PicturedShapesConfig(toy.ToyShapesConfig):
    fields: list[str] = field(default_factory=lambda: ["tsdf", "color"])
    points: int = 32
    attributes: bool = False


class PicturedShapes(toy.ToyShapes):
    """The toy shapes, with the fields that are asked for."""

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        for batch in super().train_dataloader():
            yield self.with_fields(batch)

    def val_dataloader(self) -> list[dict[str, Any]]:
        return [self.with_fields(batch) for batch in super().val_dataloader()]

    def with_fields(self, batch: dict[str, Any]) -> dict[str, Any]:
        numbers = [int(name.removeprefix("toy-")) for name in batch["id"]]
        extras = [extra(number) for number in numbers]
        kept = {key: value for key, value in batch.items() if key not in ("tsdf", "color") or key in self.config.fields}
        for name in self.config.fields:
            if name not in batch:
                value = torch.stack([one[name] for one in extras])
                kept[name] = value[:, : self.config.points or POINTS] if name in ("surface", "normals") else value
        return kept | ({"attributes": [one["attributes"] for one in extras]} if self.config.attributes else {})


def extra(number: int) -> dict[str, Any]:
    """Pictures of one shape, lop-sided so that a mirror shows, its cameras, points and wordings."""
    _, color, label, caption = toy.shape(number)
    size = 0.2 + 0.2 * (number * 0.37 % 1)
    axis = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = (x.square() + y.square()).sqrt() < size if label == 0 else torch.maximum(x.abs(), y.abs()) < size
    rgb = color[:, 0, 0, 0].view(3, 1, 1).expand(3, SIDE, SIDE).clone()
    rgb[:, :, : SIDE // 2] *= 0.5
    rgb[1] += number / 255  # shapes of almost one size look different
    picture = torch.cat([rgb, inside[None].float()])
    views = torch.stack([picture * torch.tensor([1, 1, 1 - 0.2 * view, 1]).view(4, 1, 1) for view in range(VIEWS)])
    points = torch.randn(POINTS, 3, generator=torch.Generator().manual_seed(number))
    normals = torch.nn.functional.normalize(points, dim=-1)
    return {
        "view_rgb": (views * 255).round() / 255,
        "view_camera": torch.stack([camera(0.3 + view) for view in range(VIEWS)]),
        "surface": (normals * size).half().float(),
        "normals": normals.half().float(),
        "attributes": {"paraphrases": [f"{caption}, number {number}", f"one {caption}"]},
    }


def camera(angle: float) -> Tensor:
    """World to camera, turned about y."""
    matrix = torch.eye(4)
    matrix[0, 0] = matrix[2, 2] = math.cos(angle)
    matrix[0, 2], matrix[2, 0] = math.sin(angle), -math.sin(angle)
    matrix[2, 3] = 2.0
    return matrix


@hookimpl
def register_datasets(register: Any) -> None:
    register("pictured_shapes", PicturedShapesConfig, PicturedShapes)


def install() -> None:
    """Register this plugin and the toy shapes, once."""
    toy.install()
    if "pictured_shapes" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "pictured_shapes")


def train_flow(
    folder: Path, autoencoder: Path, conditioner: dict[str, Any], condition: dict[str, Any], steps: int
) -> Path:
    """A run of a tiny flow under a conditioner."""
    data = {"name": "latents", "reader": "pictured_shapes", "shards": "toy", "autoencoder": str(autoencoder)}
    latents = {"latent_channels": "${facts:latent_channels}", "latent_resolution": "${facts:latent_resolution}"}
    config = {
        "folder": str(folder),
        "data": {**data, "batch_size": 8, "condition": condition},
        "model": {
            "name": "dit",
            **latents,
            "patch": 1,
            "width": 24,
            "heads": 2,
            "depth": 2,
            "conditioner": conditioner,
        },
        "objective": {"name": "flow_matching"},
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 2},
        "train": {"steps": steps, "ema_decays": [0.9], "validate_every": 0},
        "pipeline": {"name": "text_to_3d", "sampler": {"name": "euler", "steps": 4}, "guidance": 1.0},
        "loggers": ["csv"],
    }
    return train(load(RunConfig, config)).path
