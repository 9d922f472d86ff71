"""Values of a field at any place, from a latent at anchors."""

from __future__ import annotations

from torch import Tensor, nn

from maquette_models.transformer.attention import cast_for
from maquette_models.transformer.mixture_of_experts import MLP
from maquette_models.voxset.anchors import Anchors
from maquette_models.voxset.placed_attention import token_attention
from maquette_models.voxset.token_block import TokenBlock


class FieldDecoder(nn.Module):
    """`tokens` are made once of a latent, `values` at as many places as are asked for."""

    def __init__(
        self, channels: int, values: int, *, width: int, heads: int, depth: int, query_width: int, neighbours: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(TokenBlock(width, heads) for _ in range(depth))
        self.attention = token_attention(width, query_width, heads, neighbours)
        self.mlp_norm = nn.LayerNorm(query_width)
        self.mlp = MLP(query_width, 2 * query_width)
        self.head = nn.Linear(query_width, values)

    def forward(self, latent: Tensor, anchors: Anchors, places: Tensor) -> Tensor:
        """float32 [B,M,V] at places [B,M,3], in voxels, of a latent [B,N,C]."""
        return self.values(self.tokens(latent, anchors), anchors, places)

    def tokens(self, latent: Tensor, anchors: Anchors) -> Tensor:
        """[B,N,C] -> [B,N,W]."""
        x = self.embed(cast_for(self.embed, latent))
        for block in self.blocks:
            x = block(x, *anchors)
        return x

    def values(self, tokens: Tensor, anchors: Anchors, places: Tensor) -> Tensor:
        """float32 [B,M,V] at places [B,M,3], in voxels."""
        x = self.attention(tokens, anchors.positions, anchors.mask, places)
        x = x + self.mlp(self.mlp_norm(x))
        return self.head(cast_for(self.head, x)).float()

    def flops(self, rows: int, tokens: int, places: int) -> int:
        """Twice the multiply-adds of a forward pass."""
        ends = 2 * rows * (self.embed.weight.numel() * tokens + self.head.weight.numel() * places)
        blocks = sum(block.flops(rows, tokens) for block in self.blocks)
        return ends + blocks + self.attention.flops(rows, places, tokens) + self.mlp.flops(rows * places)
