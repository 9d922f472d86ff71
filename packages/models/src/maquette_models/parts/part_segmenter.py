"""A network that says which part of a thing each point of its surface belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_models.parts.part_labels import kinds_of_parts
from maquette_models.transformer.attention import cast_for
from maquette_models.transformer.mixture_of_experts import MLP
from maquette_models.voxset.anchors import Anchors, choose_anchors, surface_voxels, to_voxels
from maquette_models.voxset.neighbourhood import PLACE_FEATURES, place_features
from maquette_models.voxset.placed_attention import point_attention, token_attention
from maquette_models.voxset.token_block import TokenBlock
from maquette_models.voxset.voxset_vae import initialise

POINT_FEATURES = 7  # normal, colour in [-1, 1], and whether the colour is known


@dataclass
class PartSegmenterConfig:
    """`part_names` are those of the training shapes; their kinds (see `part_labels`) are what is told apart.

    Tokens stand at no more than `tokens` occupied cells of a grid of `anchor_resolution` a side. `point_neighbours` is
    how many surface points each token reads, `neighbours` how many tokens a labelled point reads.
    """

    part_names: list[str] = field(default_factory=list)
    anchor_resolution: int = 16
    tokens: int = 96
    width: int = 64
    heads: int = 4
    depth: int = 2
    point_width: int = 32
    query_width: int = 48
    point_neighbours: int = 12
    neighbours: int = 3

    def __post_init__(self) -> None:
        """Raises ValueError on sizes that do not divide each other."""
        for key in ("width", "point_width", "query_width"):
            if getattr(self, key) % (2 * self.heads):
                raise ValueError(f"'{key}' {getattr(self, key)} is no multiple of 2 x {self.heads} heads")
        if min(self.anchor_resolution, self.tokens, self.depth, self.point_neighbours, self.neighbours) < 1:
            raise ValueError("'anchor_resolution', 'tokens', 'depth' and numbers of neighbours must be at least 1")


class PartSegmenter(nn.Module):
    """Surface points gather into tokens at coarse voxels, the tokens see each other, and points read the nearest ones.

    Where a token stands is told both by rotary and by absolute features: shapes stand upright in the unit cube, so that
    height alone says much about a part.

    Raises:
        MaquetteError: no names of parts.
    """

    def __init__(self, config: PartSegmenterConfig) -> None:
        super().__init__()
        if not config.part_names:
            raise MaquetteError(
                "architecture 'part_segmenter' needs part_names; train it on shards with part_names: true"
            )
        self.config = c = config
        self.kinds = kinds_of_parts(c.part_names)
        self.points = point_attention(POINT_FEATURES, c.point_width, c.heads, c.point_neighbours)
        self.embed = nn.Linear(c.point_width + PLACE_FEATURES, c.width)
        self.layers = nn.ModuleList(TokenBlock(c.width, c.heads) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width)
        self.read = token_attention(c.width, c.query_width, c.heads, c.neighbours)
        self.own = nn.Linear(POINT_FEATURES + PLACE_FEATURES, c.query_width)
        self.mlp_norm = nn.LayerNorm(c.query_width)
        self.mlp = MLP(c.query_width, 2 * c.query_width)
        self.head = nn.Linear(c.query_width, len(self.kinds))
        self.apply(initialise)
        nn.init.zeros_(self.head.weight)

    def forward(self, points: Tensor, features: Tensor, queries: Tensor, query_features: Tensor) -> Tensor:
        """Logits [B,Q,kinds] of `queries` [B,Q,3] on the surface that `points` [B,P,3] are drawn from, all in the unit
        cube; features are `point_features` of either."""
        anchors = self.anchors_of(points)
        tokens = self.tokens(points, features, anchors)
        places = self.voxels(queries)
        own = self.own(cast_for(self.own, torch.cat([query_features, self.place(places)], dim=-1)))
        hidden = own + self.read(tokens, anchors.positions, anchors.mask, places)
        hidden = hidden + self.mlp(self.mlp_norm(hidden))
        return self.head(cast_for(self.head, hidden)).float()

    def tokens(self, points: Tensor, features: Tensor, anchors: Anchors) -> Tensor:
        """What each anchor knows of the shape, [B,N,W]."""
        everywhere = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
        local = self.points(features, self.voxels(points), everywhere, anchors.positions)
        x = self.embed(cast_for(self.embed, torch.cat([local, self.place(anchors.positions).to(local)], dim=-1)))
        for block in self.layers:
            x = block(x, *anchors)
        return self.norm(x)

    def anchors_of(self, points: Tensor) -> Anchors:
        """Occupied cells of the anchors' grid, the farthest first, the same for the same points."""
        voxels = [surface_voxels(row, self.config.anchor_resolution) for row in points]
        return choose_anchors(voxels, [self.config.tokens] * len(voxels), [0] * len(voxels))

    def voxels(self, points: Tensor) -> Tensor:
        """Points of the unit cube in voxels of the anchors' grid."""
        return to_voxels(points, self.config.anchor_resolution)

    def place(self, voxels: Tensor) -> Tensor:
        """Waves of places that span the whole cube, [..., PLACE_FEATURES]."""
        middle = (self.config.anchor_resolution - 1) / 2
        return place_features((voxels - middle) * (8 / self.config.anchor_resolution))

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return list(self.layers)

    def tensor_parallel_plan(self) -> dict[str, str]:
        """Nothing is split: what costs is attention to neighbours, which has no large matrices."""
        return {}

    def example_batch(self, rows: int) -> dict[str, Any]:
        """A batch of the right shapes, for planning."""
        count = 16 * self.config.tokens
        batch: dict[str, Any] = {name: torch.zeros(rows, count, 3) for name in ("surface", "normals", "surface_color")}
        batch |= {"surface_part": torch.zeros(rows, count, dtype=torch.uint8), "position": torch.arange(rows)}
        return {**batch, "part_names": [self.config.part_names[:1]] * rows}

    def flops(self, batch: Mapping[str, Any]) -> int:
        """Twice the multiply-adds of the matrix products of a forward pass that asks for all points of a batch."""
        (rows, count), tokens = batch["surface"].shape[:2], self.config.tokens
        linear = rows * tokens * self.embed.weight.numel() + rows * count * (
            self.own.weight.numel() + self.head.weight.numel()
        )
        blocks = sum(block.flops(rows, tokens) for block in self.layers)
        reading = self.points.flops(rows, tokens, count) + self.read.flops(rows, count, tokens)
        return 2 * linear + blocks + reading + self.mlp.flops(rows * count)


def point_features(normals: Tensor, colors: Tensor | None) -> Tensor:
    """Normals [...,3] and colours in [0,1], or None where they are not known: [..., POINT_FEATURES]."""
    if colors is None:
        return torch.cat([normals, torch.zeros_like(normals), torch.zeros_like(normals[..., :1])], dim=-1)
    return torch.cat([normals, colors * 2 - 1, torch.ones_like(normals[..., :1])], dim=-1)
