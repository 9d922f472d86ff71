"""A block of the DiT as a careful author writes it directly in PyTorch: what ours are measured against."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette_models.transformer.dit_block import MODULATIONS, THETA, Attention, DiTBlock


class PlainBlock(nn.Module):
    """Computes what a :class:`DiTBlock` does, with its parameters under its names and scaled_dot_product_attention."""

    def __init__(self, block: DiTBlock) -> None:
        super().__init__()
        self.attention, self.cross_attention = block.attention, block.cross_attention
        self.mlp, self.table = block.mlp, block.table

    def forward(self, x: Tensor, modulation: Tensor, positions: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        own = (modulation[:, :MODULATIONS] + self.table)[:, None].unbind(dim=2)
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = own
        x = x + gate1 * self_attention(self.attention, modulated(x, scale1, shift1), positions)
        if self.cross_attention is not None:
            x = x + gate2 * cross_attention(self.cross_attention, modulated(x, scale2, shift2), tokens, mask)
        y = modulated(x, scale3, shift3).to(self.mlp.up.weight.dtype)
        return (x + gate3 * self.mlp.down(F.gelu(self.mlp.up(y), approximate="tanh"))).to(x.dtype)


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm of [B,N,W], scaled and shifted by [B,1,W]."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def self_attention(layer: Attention, x: Tensor, positions: Tensor) -> Tensor:
    """Of tokens [B,N,W] at positions [N,3], queries and keys normed and rotated."""
    x = x.to(layer.to_query.weight.dtype)
    q, k, v = (heads(f(x), layer.head_dim) for f in (layer.to_query, layer.to_key, layer.to_value))
    cos, sin = rotation(positions, layer.head_dim)
    q = rotated(normed(q, layer.query_weight), cos, sin)
    k = rotated(normed(k, layer.key_weight), cos, sin)
    return joined(layer, F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v))


def cross_attention(layer: Attention, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Of tokens [B,N,W] to condition tokens [B,T,W] with a mask [B,T]."""
    dtype = layer.to_query.weight.dtype
    q, source = heads(layer.to_query(x.to(dtype)), layer.head_dim), tokens.to(dtype)
    k, v = heads(layer.to_key(source), layer.head_dim), heads(layer.to_value(source), layer.head_dim)
    q, k = normed(q, layer.query_weight).to(v.dtype), normed(k, layer.key_weight).to(v.dtype)
    return joined(layer, F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None]))


def heads(x: Tensor, head_dim: int) -> Tensor:
    """[B,N,H*D] -> [B,H,N,D]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def joined(layer: Attention, x: Tensor) -> Tensor:
    """[B,H,N,D] -> [B,N,W]."""
    return layer.out(x.transpose(1, 2).flatten(2))


def normed(x: Tensor, weight: Tensor) -> Tensor:
    """RMS norm of each head's vector."""
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps=1e-6)


def rotation(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [N, D/2]: a third of the pairs turns with each axis, the rest stands still."""
    half = head_dim // 2
    frequencies = THETA ** -(torch.arange(half // 3, device=positions.device) / (half // 3))
    angles = F.pad((positions[..., None] * frequencies).flatten(-2), (0, half - 3 * (half // 3)))
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[B,H,N,D], its halves as the two coordinates of each pair."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
