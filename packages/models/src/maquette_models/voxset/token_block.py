"""Transformer block over tokens that have a place, with padding left out."""

from __future__ import annotations

from torch import Tensor, nn

from maquette_kernels.ops import qk_norm_rope
from maquette_models.transformer.attention import attend, cast_for, join_heads
from maquette_models.transformer.dit_block import THETA, Attention
from maquette_models.transformer.mixture_of_experts import MLP


class MaskedSelfAttention(Attention):
    """Attention among tokens [B,N,W] at positions [B,N,3], to those that `mask` [B,N] keeps."""

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        x = cast_for(self.to_query, x)
        q, k, v = self.project(x, x)
        q, k = qk_norm_rope(q, k, self.query_weight, self.key_weight, positions, theta=THETA)
        return self.out(join_heads(attend(q, k, v, mask)))


class TokenBlock(nn.Module):
    """Self-attention and an MLP, each on the norm of the residual stream [B,N,W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MaskedSelfAttention(width, width // heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, 4 * width)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), positions, mask)
        return x + self.mlp(self.mlp_norm(x))

    def flops(self, rows: int, tokens: int) -> int:
        """Twice the multiply-adds of a forward pass on [rows, tokens, W]."""
        return self.attention.flops(rows, tokens, tokens) + self.mlp.flops(rows * tokens)
