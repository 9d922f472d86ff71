"""The transformer layer that conditioners encode words, patches and points with."""

from __future__ import annotations

from torch import Tensor, nn

from maquette_models.transformer.attention import attend, join_heads, split_heads


class EncoderBlock(nn.Module):
    """A pre-norm transformer layer over tokens [B,T,W] with a padding mask [B,T], or none."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (split_heads(part, self.head_dim) for part in self.qkv(self.attention_norm(x)).chunk(3, dim=-1))
        x = x + self.out(join_heads(attend(q, k, v, mask)))
        return x + self.mlp(self.mlp_norm(x))


def block_flops(tokens: int, width: int) -> int:
    """Twice the multiply-adds of a block's matrix products on one sample."""
    return tokens * 24 * width**2 + 4 * tokens**2 * width
