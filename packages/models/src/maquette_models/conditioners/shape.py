"""Condition tokens of a shape's surface, by a small perceiver (Jaegle et al., 2021) trained with the generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette.engine.randomness import normal
from maquette.errors import MaquetteError
from maquette_kernels.ops import farthest_points
from maquette_models.conditioners.condition import Part
from maquette_models.conditioners.encoder_block import EncoderBlock, block_flops
from maquette_models.transformer.attention import attend, join_heads, split_heads


@dataclass
class ShapeConfig:
    """`tokens` queries look at `points` points of the surface; coordinates are embedded in `frequencies` octaves. In
    training points are moved by `noise` of the unit cube's side. With `anchored` each query begins at a point, the one
    farthest from those before, so that tokens know where they are from the start."""

    tokens: int = 32
    points: int = 1024
    width: int = 128
    depth: int = 2
    heads: int = 4
    frequencies: int = 6
    drop: float = 0.1
    noise: float = 0.0
    anchored: bool = False


class Shape(Part):
    """Reads `surface` [B,N,3], in the unit cube, and `normals` [B,N,3]: the first `points` of each."""

    reads: ClassVar[frozenset[str]] = frozenset({"mesh"})

    def __init__(self, config: ShapeConfig) -> None:
        super().__init__(config.width, config.heads, config.drop)
        if config.anchored and config.tokens > config.points:
            raise MaquetteError(
                f"conditioner 'shape': {config.tokens} tokens cannot be anchored at {config.points} points"
            )
        self.config, self.surface_count = config, config.points
        width = config.width
        self.embed = nn.Linear(6 + 6 * config.frequencies, width)
        self.queries = nn.Parameter(torch.randn(config.tokens, width) * 0.5)
        self.point_norm = nn.LayerNorm(width)
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.blocks = nn.ModuleList(EncoderBlock(width, config.heads) for _ in range(config.depth))

    def read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """`points` float32 [B,N,6]: where, and the normal."""
        count = self.config.points
        if "surface" not in batch:
            return {"points": torch.zeros(rows, count, 6), "known": torch.zeros(rows, dtype=torch.bool)}
        surface, normals = (batch[key][:, :count].float() for key in ("surface", "normals"))
        if self.training and self.config.noise:
            surface = surface + self.config.noise * normal("surface", surface.shape, device=surface.device)
        return {"points": torch.cat([surface, normals], dim=-1), "known": torch.ones(rows, dtype=torch.bool)}

    def encode(self, prepared: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the queries saw."""
        points = self.point_norm(self.embed(self.features(prepared["points"]).to(self.embed.weight.dtype)))
        head_dim = self.config.width // self.config.heads
        queries = self.queries.expand(len(points), *self.queries.shape)
        if self.config.anchored:
            chosen = farthest_points(prepared["points"][..., :3], self.config.tokens)
            queries = queries + torch.take_along_dim(points, chosen[..., None], dim=1)
        key, value = self.to_key_value(points).chunk(2, dim=-1)
        q, k, v = (split_heads(x, head_dim) for x in (self.to_query(queries), key, value))
        tokens = queries + self.out(join_heads(attend(q, k, v)))
        for block in self.blocks:
            tokens = block(tokens)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

    def features(self, points: Tensor) -> Tensor:
        """Sines and cosines of coordinates by octave beside what is there: [B,N,6] -> [B,N,6+6F]."""
        octaves = torch.exp2(torch.arange(self.config.frequencies, device=points.device)) * math.pi
        angles = (points[..., :3, None] * octaves).flatten(-2)
        return torch.cat([points, angles.sin(), angles.cos()], dim=-1)

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Points in the middle."""
        return {key: torch.zeros(batch_size, self.config.points, 3) for key in ("surface", "normals")}

    @property
    def encoded_count(self) -> int:
        """One token a query."""
        return self.config.tokens

    def encoding_flops(self) -> int:
        """Of points, queries and blocks."""
        points, tokens, width = self.config.points, self.config.tokens, self.config.width
        by_point = 2 * (self.embed.weight.numel() + self.to_key_value.weight.numel()) + 4 * tokens * width
        by_token = 2 * (self.to_query.weight.numel() + self.out.weight.numel())
        return points * by_point + tokens * by_token + len(self.blocks) * block_flops(tokens, width)
