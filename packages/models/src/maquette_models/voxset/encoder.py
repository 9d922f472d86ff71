"""Surface points to the moments of a latent at each anchor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maquette_models.transformer.attention import cast_for
from maquette_models.transformer.mixture_of_experts import MLP
from maquette_models.voxset.anchors import Anchors
from maquette_models.voxset.placed_attention import point_attention
from maquette_models.voxset.token_block import TokenBlock

FIRST_LOGVAR = -5.0  # so that the noise does not drown the means before they have learnt anything


class Encoder(nn.Module):
    """Points with features [B,P,F], normals first, to moments [B,N,2*C]: mean, then logarithm of the variance."""

    def __init__(
        self, features: int, channels: int, *, point_width: int, width: int, heads: int, depth: int, neighbours: int
    ) -> None:
        super().__init__()
        self.points = point_attention(features, point_width, heads, neighbours)
        self.embed = nn.Linear(point_width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, 4 * width)
        self.blocks = nn.ModuleList(TokenBlock(width, heads) for _ in range(depth))
        self.moments = nn.Linear(width, 2 * channels)

    def forward(self, features: Tensor, points: Tensor, mask: Tensor, anchors: Anchors) -> Tensor:
        """`points` [B,P,3] in voxels, of which `mask` [B,P] counts."""
        x = self.embed(self.points(features, points, mask, anchors.positions))
        x = x + self.mlp(self.mlp_norm(x))
        for block in self.blocks:
            x = block(x, *anchors)
        return self.moments(cast_for(self.moments, x))

    def silence(self) -> None:
        """Let the variances start out small and equal, whatever is read."""
        channels = len(self.moments.weight) // 2
        nn.init.zeros_(self.moments.weight[channels:].data)
        nn.init.constant_(self.moments.bias[channels:].data, FIRST_LOGVAR)

    def flops(self, rows: int, tokens: int, points: int) -> int:
        """Twice the multiply-adds of a forward pass."""
        ends = 2 * (self.embed.weight.numel() + self.moments.weight.numel()) * tokens * rows
        blocks = sum(block.flops(rows, tokens) for block in self.blocks)
        return self.points.flops(rows, tokens, points) + ends + self.mlp.flops(rows * tokens) + blocks


def flagged(normals: Tensor, on_edge: bool) -> Tensor:
    """Normals [B,P,3] and a channel that tells points on sharp edges from others: [B,P,4]."""
    return torch.cat([normals, torch.full_like(normals[..., :1], float(on_edge))], dim=-1)
