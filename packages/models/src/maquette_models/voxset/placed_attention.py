"""Cross-attention between things that have a place: to the nearest few, or to all by rotary positions.

All take `source` [B,N,S] at `positions` [B,N,3] of which `mask` [B,N] counts, and `places` [B,M,3], both in voxels, and
give [B,M,W].
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from maquette_kernels.ops import qk_norm_rope
from maquette_models.transformer.attention import attend, cast_for, join_heads, split_heads
from maquette_models.transformer.dit_block import THETA, linear_flops
from maquette_models.voxset.neighbourhood import PLACE_FEATURES, gather_rows, neighbourhood, place_features


class PointAttention(nn.Module):
    """What the nearest surface points around each place say together; the first three source channels are normals.

    A pair of a place and a point has a gated hidden layer over the point's features, its offset and the place's height
    over its tangent plane; scores and values are linear in it. After Zhao et al., "Point Transformer", 2021.
    """

    def __init__(self, source_width: int, width: int, heads: int, neighbours: int) -> None:
        super().__init__()
        self.heads, self.neighbours = heads, neighbours
        self.gate = nn.Linear(PLACE_FEATURES + 1 + source_width, width)
        self.value = nn.Linear(PLACE_FEATURES + 1 + source_width, width)
        self.score = nn.Linear(width, heads)
        self.out = nn.Linear(width, width)

    def forward(self, source: Tensor, positions: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        near = neighbourhood(places, positions, mask, self.neighbours)
        told = gather_rows(source, near.index)
        height = (told[..., :3] * near.offset).sum(dim=-1, keepdim=True)
        pairs = cast_for(self.gate, torch.cat([place_features(near.offset), height, told], dim=-1))
        hidden = F.silu(1 + self.gate(pairs)) * self.value(pairs)  # open at first, so that it starts out linear
        return self.out(pooled(hidden, self.score(hidden), near.log_window))

    def flops(self, rows: int, places: int, sources: int) -> int:
        """Twice the multiply-adds of the matrix products."""
        pairs = places * min(self.neighbours, sources)
        return rows * (pairs * linear_flops(self.gate, self.value, self.score) + places * linear_flops(self.out))


class TokenAttention(nn.Module):
    """What the nearest tokens around each place say of it.

    Keys and values are a token's projections times features of the place's offset from it: what a token says is a
    function of the offset whose coefficients it holds, such as the distance to a plane.
    """

    def __init__(self, source_width: int, width: int, heads: int, neighbours: int) -> None:
        super().__init__()
        self.heads, self.neighbours = heads, neighbours
        self.to_key = nn.Linear(source_width, width)
        self.to_value = nn.Linear(source_width, width)
        self.offset = nn.Linear(PLACE_FEATURES, width)
        self.out = nn.Linear(width, width)

    def forward(self, source: Tensor, positions: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        near = neighbourhood(places, positions, mask, self.neighbours)
        source = cast_for(self.to_key, source)
        key, value = (gather_rows(layer(source), near.index) for layer in (self.to_key, self.to_value))
        offset = F.gelu(self.offset(cast_for(self.offset, place_features(near.offset))), approximate="tanh")
        scores = rearrange(key * offset, "b m k (h d) -> b m k h d", h=self.heads).sum(dim=-1)
        scores = scores * (key.shape[-1] // self.heads) ** -0.5
        return self.out(pooled(value * offset, scores, near.log_window))

    def flops(self, rows: int, places: int, sources: int) -> int:
        """Twice the multiply-adds of the matrix products."""
        pairs = places * min(self.neighbours, sources)
        by_pair = linear_flops(self.offset)
        return rows * (
            sources * linear_flops(self.to_key, self.to_value) + pairs * by_pair + places * linear_flops(self.out)
        )


class FullAttention(nn.Module):
    """Attention of each place to all sources, by what they hold and by relative place (rotary), as in LATTICE."""

    def __init__(self, source_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.to_query = nn.Linear(PLACE_FEATURES, width)
        self.to_key = nn.Linear(source_width + PLACE_FEATURES, width)
        self.to_value = nn.Linear(source_width + PLACE_FEATURES, width)
        self.query_weight = nn.Parameter(torch.ones(self.head_dim))
        self.key_weight = nn.Parameter(torch.ones(self.head_dim))
        self.out = nn.Linear(width, width)

    def forward(self, source: Tensor, positions: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        source = cast_for(self.to_key, torch.cat([source.float(), place_features(positions)], dim=-1))
        query = split_heads(self.to_query(cast_for(self.to_query, place_features(places))), self.head_dim)
        key, value = (split_heads(layer(source), self.head_dim) for layer in (self.to_key, self.to_value))
        query, key = rotated(query, self.query_weight, places), rotated(key, self.key_weight, positions)
        return self.out(join_heads(attend(query, key, value, mask)))

    def flops(self, rows: int, places: int, sources: int) -> int:
        """Twice the multiply-adds of the matrix products."""
        projections = places * linear_flops(self.to_query, self.out) + sources * linear_flops(
            self.to_key, self.to_value
        )
        return rows * (projections + 4 * places * sources * self.out.in_features)


def point_attention(source_width: int, width: int, heads: int, neighbours: int) -> PointAttention | FullAttention:
    """Attention to surface points: the nearest `neighbours`, or all where that is 0."""
    if neighbours:
        return PointAttention(source_width, width, heads, neighbours)
    return FullAttention(source_width, width, heads)


def token_attention(source_width: int, width: int, heads: int, neighbours: int) -> TokenAttention | FullAttention:
    """Attention to tokens: the nearest `neighbours`, or all where that is 0."""
    if neighbours:
        return TokenAttention(source_width, width, heads, neighbours)
    return FullAttention(source_width, width, heads)


def rotated(x: Tensor, weight: Tensor, positions: Tensor) -> Tensor:
    """RMSNorm and rotary positions [B,N,3] of queries or of keys alone, [B,N,H,D]."""
    return qk_norm_rope(x, x, weight, weight, positions, theta=THETA)[0]


def pooled(values: Tensor, scores: Tensor, log_window: Tensor) -> Tensor:
    """Means of values [B,M,K,W] over the neighbours by head, weighted by scores [B,M,K,H] and windows [B,M,K]."""
    weights = (scores.float() + log_window[..., None]).softmax(dim=2).to(values.dtype)
    # One weight a channel: an axis of heads would make inner loops as short as a head.
    return (values * weights.repeat_interleave(values.shape[-1] // weights.shape[-1], dim=-1)).sum(dim=2)
