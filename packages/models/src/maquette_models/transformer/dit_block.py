"""One block of the diffusion transformer: self-attention, cross-attention and MLP, each modulated and gated."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette_kernels.ops import gated_norm_modulate, qk_norm_rope
from maquette_models.transformer.attention import AttentionCore, attend, cast_for, join_heads, split_heads

THETA = 100.0  # the slowest pair of a head turns about one radian over a grid of a hundred tokens a side
MODULATIONS = 9  # shift, scale and gate for each of self-attention, cross-attention and MLP


class Attention(nn.Module):
    """What all attention shares: projections of width W and norms of queries and keys by head."""

    def __init__(self, width: int, head_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.to_query = nn.Linear(width, width, bias=bias)
        self.to_key = nn.Linear(width, width, bias=bias)
        self.to_value = nn.Linear(width, width, bias=bias)
        self.query_weight = nn.Parameter(torch.ones(head_dim))
        self.key_weight = nn.Parameter(torch.ones(head_dim))
        self.out = nn.Linear(width, width, bias=bias)

    def project(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x [B,N,W], keys and values of source [B,M,W], by head: [B,N,H,D], [B,M,H,D] twice."""
        query, key, value = self.to_query(x), self.to_key(source), self.to_value(source)
        return split_heads(query, self.head_dim), split_heads(key, self.head_dim), split_heads(value, self.head_dim)

    def flops(self, rows: int, queries: int, keys: int) -> int:
        """Twice the multiply-adds of attention of `queries` tokens to `keys` tokens in each of some samples."""
        products = 4 * queries * keys * self.out.in_features
        projections = queries * linear_flops(self.to_query, self.out) + keys * linear_flops(self.to_key, self.to_value)
        return rows * (products + projections)


class SelfAttention(Attention):
    """Attention among tokens [B,N,W] at positions [N,3] or [B,N,3]; `keep` [B,N] is True where a token may be seen."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__(width, head_dim)
        self.core = AttentionCore()

    def forward(self, x: Tensor, positions: Tensor, keep: Tensor | None = None) -> Tensor:
        x = cast_for(self.to_query, x)
        q, k, v = self.project(x, x)
        q, k = qk_norm_rope(q, k, self.query_weight, self.key_weight, positions, theta=THETA)
        return self.out(join_heads(self.core(q, k, v) if keep is None else self.core(q, k, v, keep=keep)))


class CrossAttention(Attention):
    """Attention of tokens [B,N,W] to condition tokens [B,T,W] with a mask [B,T]."""

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.project(cast_for(self.to_query, x), cast_for(self.to_key, tokens))
        q, k = rms_norm(q, self.query_weight), rms_norm(k, self.key_weight)
        return self.out(join_heads(attend(q, k, v, mask)))


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm of the last axis, in the dtype of x."""
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps=1e-6)


class DiTBlock(nn.Module):
    """Self-attention, cross-attention and MLP on a residual stream [B,N,W], each shifted, scaled and gated.

    The nine modulations are the ones shared by all blocks plus this block's own table (adaLN-single).
    """

    def __init__(self, width: int, head_dim: int, mlp: nn.Module, cross: bool) -> None:
        super().__init__()
        self.attention = SelfAttention(width, head_dim)
        self.cross_attention = CrossAttention(width, head_dim) if cross else None
        self.mlp = mlp
        self.table = nn.Parameter(torch.randn(MODULATIONS, width) / width**0.5)

    def forward(self, x: Tensor, modulation: Tensor, positions: Tensor, tokens: Tensor, *masks: Tensor) -> Tensor:
        """x [B,N,W] of the same dtype, whatever the linear layers compute in; `modulation` [B,9 or more,W].

        `masks`: of the condition's tokens, bool [B,T], and of the stream's, [B,N], where not all of those count.
        """
        mask, *keep = masks
        own = (modulation[:, :MODULATIONS] + self.table).unbind(dim=1)
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = own
        h = self.attention(normalized(x, scale1, shift1), positions, *keep)
        if self.cross_attention is not None:
            x, h = gated_norm_modulate(x, h.to(x.dtype), gate1, scale2, shift2)
            h, gate1 = self.cross_attention(h, tokens, mask), gate2
        x, h = gated_norm_modulate(x, h.to(x.dtype), gate1, scale3, shift3)
        return (x + gate3[:, None] * self.mlp(h)).to(x.dtype)

    def flops(self, rows: int, tokens: int, condition_tokens: int) -> int:
        """Twice the multiply-adds of a forward pass on [rows, tokens, W]."""
        cross = self.cross_attention.flops(rows, tokens, condition_tokens) if self.cross_attention is not None else 0
        return self.attention.flops(rows, tokens, tokens) + cross + self.mlp.flops(rows * tokens)


def linear_flops(*layers: nn.Linear) -> int:
    """Twice the multiply-adds of linear layers for one row."""
    return sum(2 * layer.in_features * layer.out_features for layer in layers)


def normalized(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm of [B,N,W] without weights, scaled by 1 + scale and shifted, [B,W] each; in float32 at least."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    normed = F.layer_norm(wide, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]
    return normed.to(x.dtype)
