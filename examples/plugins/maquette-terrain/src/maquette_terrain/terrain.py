"""A dataset of islands: a height field of summed waves, turned into a solid with beach, grass, rock and snow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from einops import rearrange
from torch import Tensor

# Height above the sea at which each colour begins, and the colour (sRGB).
BANDS = ((-1.0, (0.85, 0.77, 0.55)), (0.02, (0.36, 0.58, 0.26)), (0.14, (0.47, 0.44, 0.42)), (0.24, (0.95, 0.96, 0.98)))
VALIDATION_START = 10**9


@dataclass
class TerrainConfig:
    """Cells along an axis, samples a batch over all ranks, waves summed, truncation of the distance, seed."""

    resolution: int = 32
    batch_size: int = 8
    waves: int = 6
    truncation: float = 0.1
    seed: int = 0
    validation_batches: int = 2


class Terrain(pl.LightningDataModule):
    """Sample number i is a function of (seed, i) alone, so the position in the stream is one number."""

    rank, world = 0, 1

    def __init__(self, config: TerrainConfig) -> None:
        super().__init__()
        self.config = config
        self.consumed = 0

    def facts(self) -> dict[str, Any]:
        return {"resolution": self.config.resolution, "truncation": self.config.truncation, "classes": ["island"]}

    def heights(self, index: int, x: Tensor, z: Tensor) -> Tensor:
        """Heights in the unit cube's units at x, z (same shapes): waves over a round island."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + index)
        height = 0.25 * torch.exp(-8 * (x**2 + z**2)) - 0.1
        for wave in range(self.config.waves):
            angle, phase, size = torch.rand(3, generator=generator) * torch.tensor([6.283, 6.283, 1.0])
            frequency = 4.0 * 1.6**wave
            along = x * torch.cos(angle) + z * torch.sin(angle)
            height = height + size * 0.35 / frequency * torch.sin(frequency * along + phase)
        return height

    def sample(self, index: int) -> dict[str, Tensor]:
        """tsdf [1, R, R, R] and color [3, R/2, R/2, R/2], float32."""
        x, y, z = self._grid(self.config.resolution)
        # The vertical gap overstates the distance on slopes; dividing by the steepest slope bounds it.
        ground = (y - self.heights(index, x, z)) / 1.5
        sea_bed, rim = -0.35 - y, torch.maximum(x.abs(), z.abs()) - 0.42
        distance = torch.maximum(torch.maximum(ground, sea_bed), rim)
        cx, _, cz = self._grid(self.config.resolution // 2)
        above = self.heights(index, cx, cz) + 0.05
        color = torch.zeros(*above.shape, 3)
        for start, band in BANDS:
            color[above >= start] = torch.tensor(band)
        tsdf = (distance / self.config.truncation).clamp(-1, 1)
        return {"tsdf": tsdf[None], "color": rearrange(color, "x y z c -> c x y z")}

    def batch(self, first: int) -> dict[str, Any]:
        """The rank's rows of the batch that starts at sample `first`."""
        rows = range(first, first + self.config.batch_size)[self.rank :: self.world]
        samples = [self.sample(row) for row in rows]
        batch: dict[str, Any] = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
        return {**batch, "class_id": torch.zeros(len(rows), dtype=torch.int64), "caption": ["an island"] * len(rows)}

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        while True:
            first = self.consumed
            self.consumed += self.config.batch_size
            yield self.batch(first)

    def val_dataloader(self) -> Iterator[dict[str, Any]]:
        for number in range(self.config.validation_batches):
            yield self.batch(VALIDATION_START + number * self.config.batch_size)

    def state_dict(self) -> dict[str, int]:
        return {"consumed": self.consumed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.consumed = state_dict["consumed"]

    @staticmethod
    def _grid(resolution: int) -> tuple[Tensor, Tensor, Tensor]:
        axis = (torch.arange(resolution) + 0.5) / resolution - 0.5
        x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
        return x, y, z
