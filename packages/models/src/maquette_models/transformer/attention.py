"""Scaled dot-product attention over heads, with an optional mask over keys."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """[B, N, H*D] -> [B, N, H, D]; a rank of tensor parallelism sees a part of the heads, so D is what counts."""
    return rearrange(x, "b n (h d) -> b n h d", d=head_dim)


def join_heads(x: Tensor) -> Tensor:
    """[B, N, H, D] -> [B, N, H*D]."""
    return rearrange(x, "b n h d -> b n (h d)")


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of queries [B,N,H,D] to keys and values [B,M,H,D]; `mask` [B,M] is True where a key counts.

    On CPUs the products are written out: the fused backward pass of torch is 6x slower there in bfloat16, at
    the few dozen tokens that a CPU run has.
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    keep = None if mask is None else mask[:, None, None, :]
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), attn_mask=keep).transpose(1, 2)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if keep is not None:
        scores = scores.masked_fill(~keep, torch.finfo(scores.dtype).min)
    return torch.matmul(scores.softmax(dim=-1), v).transpose(1, 2)


class AttentionCore(nn.Module):
    """q, k, v [B,N,H,D] -> [B,N,H,D], without parameters: where context parallelism exchanges tokens for heads.

    `keep` [B,M], of all tokens wherever they lie, is True where a key counts.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        return attend(q, k, v, keep)


def compute_dtype(weight: Tensor) -> torch.dtype:
    """The dtype that a product with a weight is computed in: autocast's, or else that of the weight."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def cast_for(layer: nn.Linear, x: Tensor) -> Tensor:
    """x in the dtype that a linear layer computes in.

    Without autocast a layer may hold bfloat16 weights (sharded training) and meet a float32 x. Layers that read the
    same x share one cast.
    """
    return x.to(compute_dtype(layer.weight))
