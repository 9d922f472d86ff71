"""A condition token of how many faces a mesh has, so that a user can ask for a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maquette_models.conditioners.condition import Part


@dataclass
class FaceCountConfig:
    """The logarithm of the count is embedded in `frequencies` octaves."""

    frequencies: int = 8
    width: int = 128
    drop: float = 0.1


class FaceCount(Part):
    """Reads `face_count` int64 [B]; 0 is none."""

    def __init__(self, config: FaceCountConfig) -> None:
        super().__init__(config.width, 1, config.drop)
        self.config = config
        self.embed = nn.Linear(1 + 2 * config.frequencies, config.width)

    def read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """`face_count` int64 [B], at least 1."""
        count = torch.as_tensor(batch.get("face_count", [0] * rows), dtype=torch.int64)
        return {"face_count": count.clamp(min=1), "known": count > 0}

    def encode(self, prepared: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One token."""
        size = prepared["face_count"].float().log2()[:, None] / 8
        angles = size * torch.exp2(torch.arange(self.config.frequencies, device=size.device)) * math.pi
        features = torch.cat([size, angles.sin(), angles.cos()], dim=-1)
        return self.embed(features.to(self.embed.weight.dtype))[:, None], torch.ones_like(prepared["known"][:, None])

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """A hundred faces."""
        return {"face_count": torch.full((batch_size,), 100)}

    @property
    def encoded_count(self) -> int:
        """One."""
        return 1

    def encoding_flops(self) -> int:
        """Of the one layer."""
        return 2 * self.embed.weight.numel()
