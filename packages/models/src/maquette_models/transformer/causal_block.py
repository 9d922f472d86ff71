"""A decoder block over a sequence of tokens, with a memory of what it has read already."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette_kernels.ops import qk_norm_rope
from maquette_models.transformer.attention import attend, cast_for, join_heads, split_heads
from maquette_models.transformer.dit_block import Attention, rms_norm

THETA = 1000.0


class Memory:
    """Keys and values [B, most, H, D] of the tokens read so far, and those of the condition [B, T, H, D]."""

    def __init__(self, rows: int, most: int, like: Tensor) -> None:
        self.key = like.new_zeros(rows, most, *like.shape[2:])
        self.value = torch.zeros_like(self.key)
        self.length = 0
        self.condition: tuple[Tensor, Tensor] | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values [B, N, H, D]; all of them so far."""
        end = self.length + key.shape[1]
        self.key[:, self.length : end] = key
        self.value[:, self.length : end] = value
        self.length = end
        return self.key[:, :end], self.value[:, :end]


class CausalAttention(Attention):
    """Attention of each token [B,N,W] to itself and those before it; queries and keys are normed and turned by their
    positions [B,N,3]."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__(width, head_dim, bias=False)

    def forward(self, x: Tensor, positions: Tensor, memory: Memory | None = None) -> Tensor:
        x = cast_for(self.to_query, x)
        q, k, v = self.project(x, x)
        q, k = qk_norm_rope(q, k, self.query_weight, self.key_weight, positions, theta=THETA)
        if memory is not None:
            k, v = memory.append(k, v)
        return self.out(join_heads(attend_causally(q, k, v)))


class ConditionAttention(Attention):
    """Attention of tokens [B,N,W] to condition tokens [B,T,W] with a mask [B,T]."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__(width, head_dim, bias=False)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor, memory: Memory | None = None) -> Tensor:
        q = rms_norm(split_heads(self.to_query(cast_for(self.to_query, x)), self.head_dim), self.query_weight)
        if memory is None:
            k, v = self.keys_and_values(tokens)
        else:
            k, v = memory.condition = memory.condition or self.keys_and_values(tokens)
        return self.out(join_heads(attend(q, k, v, mask)))

    def keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Of condition tokens, by head: [B,T,H,D] twice."""
        tokens = cast_for(self.to_key, tokens)
        k, v = (split_heads(to(tokens), self.head_dim) for to in (self.to_key, self.to_value))
        return rms_norm(k, self.key_weight), v


class GatedMLP(nn.Module):
    """SwiGLU (Shazeer, "GLU Variants Improve Transformer", 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = cast_for(self.up, x)
        return self.down(F.silu(self.gate(x)) * self.up(x))


class CausalBlock(nn.Module):
    """Causal self-attention, attention to the condition and a gated MLP, each on the RMS-normed stream [B,N,W]."""

    def __init__(self, width: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.Parameter(torch.ones(width))
        self.attention = CausalAttention(width, head_dim)
        self.condition_norm = nn.Parameter(torch.ones(width))
        self.condition_attention = ConditionAttention(width, head_dim)
        self.mlp_norm = nn.Parameter(torch.ones(width))
        self.mlp = GatedMLP(width, hidden)

    def forward(
        self, x: Tensor, positions: Tensor, tokens: Tensor, mask: Tensor, memory: Memory | None = None
    ) -> Tensor:
        """x of the same dtype, whatever the layers compute in. With `memory`, x is what follows on what it holds."""
        x = x + self.attention(rms_norm(x, self.attention_norm), positions, memory).to(x.dtype)
        x = x + self.condition_attention(rms_norm(x, self.condition_norm), tokens, mask, memory).to(x.dtype)
        return x + self.mlp(rms_norm(x, self.mlp_norm)).to(x.dtype)

    def flops(self, rows: int, tokens: int, condition_tokens: int) -> int:
        """Twice the multiply-adds of a forward pass on [rows, tokens, W]; masked products count."""
        own, cross = self.attention, self.condition_attention
        width = own.out.in_features
        by_token = [own.to_query, own.to_key, own.to_value, own.out, cross.to_query, cross.out]
        weights = sum(layer.weight.numel() for layer in (*by_token, self.mlp.up, self.mlp.gate, self.mlp.down))
        by_condition = cross.to_key.weight.numel() + cross.to_value.weight.numel()
        products = 2 * tokens * (tokens + condition_tokens) * width
        return 2 * rows * (tokens * weights + condition_tokens * by_condition + products)


def attend_causally(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of queries [B,N,H,D], the last N of M tokens, to keys and values [B,M,H,D] up to their own."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if q.shape[2] == k.shape[2] > 1:
        return F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), is_causal=True).transpose(1, 2)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if q.shape[2] > 1:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1 + k.shape[2] - q.shape[2])
        scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
    return torch.matmul(scores.softmax(dim=-1), v).transpose(1, 2)
