"""An autoencoder without weights worth the name: a token is where the surface is in its voxel, and its colour."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maquette import hookimpl, plugins
from maquette.config import RunConfig, load
from maquette.runner import train
from maquette_models.voxset.anchors import Anchors, choose_anchors, surface_voxels, to_space
from maquette_models.voxset.field_grid import Pieces
from maquette_models.voxset.surface_cloud import SurfaceCloud

RADIUS = 0.1


@dataclass
class ToyAutoencoderConfig:
    anchor_resolution: int = 8
    truncation: float = 0.05


@dataclass
class ToyObjectiveConfig:
    pass


class ToyAutoencoder(nn.Module):
    """Latents [B,N,6]; shapes come back as balls around their tokens."""

    def __init__(self, config: ToyAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.ones(6))

    @property
    def latent_resolution(self) -> int:
        return self.config.anchor_resolution

    def blocks(self) -> list[nn.Module]:
        return []

    def reconstruction_fields(self) -> tuple[str, ...]:
        return "surface", "surface_color"

    def anchors_of(self, points: Tensor, count: int, seed: Sequence[int]) -> Anchors:
        voxels = [surface_voxels(own, self.config.anchor_resolution) for own in points]
        return choose_anchors(voxels, [count] * len(voxels), seed)

    def encode(self, batch: Mapping[str, Any] | SurfaceCloud, anchors: Anchors) -> Tensor:
        cloud = isinstance(batch, SurfaceCloud)
        points, colors = (batch.points, batch.colors) if cloud else (batch["surface"], batch["surface_color"])
        centres = to_space(anchors.positions, self.config.anchor_resolution)
        nearest = torch.cdist(centres, points).argmin(dim=-1)[..., None].expand(-1, -1, 3)
        parts = [points.gather(1, nearest) - centres, colors.gather(1, nearest)]
        return torch.cat(parts, dim=-1) * self.weight * anchors.mask[..., None]

    def tsdf_grid(self, latent: Tensor, positions: Tensor, mask: Tensor, resolution: int) -> Tensor:
        distance, _ = self.nearest(latent, positions, resolution)
        return ((distance - RADIUS) / self.config.truncation).clamp(-1, 1).view(-1, 1, *[resolution] * 3)

    def color_grid(self, latent: Tensor, positions: Tensor, mask: Tensor, resolution: int) -> Tensor:
        _, nearest = self.nearest(latent, positions, resolution)
        colors = latent[..., 3:].gather(1, nearest[..., None].expand(-1, -1, 3)).clamp(0, 1)
        return colors.transpose(1, 2).unflatten(2, [resolution] * 3)

    def tsdf_pieces(self, latent: Tensor, anchors: Anchors, resolution: int) -> Iterator[Pieces]:
        yield in_one_piece(self.tsdf_grid(latent, *anchors, resolution)[0])

    def color_pieces(self, latent: Tensor, anchors: Anchors, resolution: int) -> Iterator[Pieces]:
        yield in_one_piece(self.color_grid(latent, *anchors, resolution)[0])

    def nearest(self, latent: Tensor, positions: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
        axis = (torch.arange(resolution, device=latent.device) + 0.5) / resolution - 0.5
        grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(1, -1, 3)
        where = to_space(positions, self.config.anchor_resolution)
        found = torch.cdist(grid.expand(len(latent), -1, -1), where).min(dim=-1)
        return found.values, found.indices


def in_one_piece(value: Tensor) -> Pieces:
    yield None
    return value


class ToyObjective:
    """Leaves the weights where they are."""

    def __init__(self, config: ToyObjectiveConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"loss": (model.weight - 1).square().sum()}


@hookimpl
def register_architectures(register: Any) -> None:
    register("toy_autoencoder", ToyAutoencoderConfig, ToyAutoencoder)


@hookimpl
def register_objectives(register: Any) -> None:
    register("toy_nothing", ToyObjectiveConfig, ToyObjective)


def install() -> None:
    """Register the plugin with the process's manager, once."""
    if "toy_autoencoder" not in plugins.manager().statuses:
        plugins.manager().add(sys.modules[__name__], "toy_autoencoder")


def train_all(root: Path, steps: int = 3) -> None:
    """Runs `autoencoder`, `structure` and `flow` in a folder, the last with a pipeline."""
    common = {"optimizer": {"learning_rate": 0.003, "warmup_steps": 1}, "loggers": ["csv"]}
    length = {"steps": steps, "ema_decays": [0.9]}
    conditioner = {
        "name": "class_caption",
        "classes": "${facts:classes}",
        "vocabulary": "${facts:vocabulary}",
        "width": 16,
        "heads": 2,
        "max_words": 5,
    }
    sizes = {"width": 24, "heads": 2, "depth": 2, "conditioner": conditioner}
    channels = {"latent_channels": "${facts:latent_channels}"}
    shards = {"shards": "toy", "reader": "toy_surfaces", "batch_size": 8}
    runs = {
        "autoencoder": {
            "data": {"name": "toy_surfaces"},
            "model": {"name": "toy_autoencoder", "anchor_resolution": 8},
            "objective": {"name": "toy_nothing"},
            "train": {"steps": 1},
        },
        "structure": {
            "data": {"name": "structures", "resolution": 8, **shards},
            "model": {"name": "dit", "latent_resolution": 8, "patch": 4, "prediction": "x0", **channels, **sizes},
            "objective": {"name": "flow_matching", "prediction": "x0"},
            "train": length,
        },
        "flow": {
            "data": {"name": "voxset_latents", "tokens": 12, "autoencoder": str(root / "autoencoder"), **shards},
            "model": {"name": "token_dit", "resolution": "${facts:latent_resolution}", **channels, **sizes},
            "objective": {"name": "flow_matching"},
            "train": length,
            "pipeline": {
                "name": "voxset",
                "structure": "structure",
                "resolution": 24,
                "latent_stage": {"sampler": {"name": "euler", "steps": 3}},
                "structure_stage": {"sampler": {"name": "euler", "steps": 3}},
            },
        },
    }
    for name, block in runs.items():
        train(load(RunConfig, {"folder": str(root / name), **common, **block}))
