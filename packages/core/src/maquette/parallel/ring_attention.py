"""Ring attention: each process keeps its queries, and the keys and values go round (Liu et al., 2023).

The softmax over all keys is put together online from the parts, as in Milakov & Gimelshein, "Online normalizer
calculation for softmax", 2018. The backward pass goes round the ring once more and recomputes each part's
probabilities, with the gradients of keys and values travelling along; so memory does not grow with the ring.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from maquette.parallel.tokens import Peers

AHEAD = "b n h d -> b h n d"


def ring_attention(q: Tensor, k: Tensor, v: Tensor, peers: Peers) -> Tensor:
    """Softmax attention of this process's queries to everybody's keys, without a mask, scaled by D^-1/2.

    Args:
        q: [B, N, H, D], this process's share of the tokens; so are ``k`` and ``v``, of the same shape.
        k: keys; keys and values are brought to the queries' dtype.
        v: values.
        peers: whose shares make up all tokens.

    Returns:
        [B, N, H, D] in the dtype of ``q``.
    """
    out = _Ring.apply(*(rearrange(x, AHEAD).to(q.dtype).contiguous() for x in (q, k, v)), peers)  # type: ignore[no-untyped-call]
    return rearrange(out, "b h n d -> b n h d")


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, peers: Peers) -> Tensor:
        pair = torch.stack((k, v))
        out, lse, seeds = attend(q, k, v)
        for _ in range(peers.size - 1):
            pair = _wait(_shift(pair, peers))
            part, part_lse, _ = attend(q, pair[0], pair[1])
            out, lse = merge(out, lse, part, part_lse)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse, *seeds)
        ctx.peers = peers
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        q, k, v, out, lse, *seeds = ctx.saved_tensors
        grad, peers = gradients[0].contiguous(), ctx.peers
        pair = torch.stack((k, v))
        grad_q, travelling = torch.zeros_like(q, dtype=torch.float32), torch.zeros_like(pair, dtype=torch.float32)
        for step in range(peers.size):
            coming = _shift(pair, peers) if step < peers.size - 1 else pair
            part_q, part_k, part_v = attend_backward(grad, (q, pair[0], pair[1]), (out, lse), seeds)
            grad_q = grad_q + part_q
            # What is known of a share's gradients goes round with the share, and comes home after the last step.
            travelling = _wait(_shift(travelling + torch.stack((part_k, part_v)).float(), peers))
            pair = _wait(coming) if step < peers.size - 1 else pair
        return grad_q.to(q.dtype), travelling[0].to(k.dtype), travelling[1].to(v.dtype), None


def _shift(x: Tensor, peers: Peers) -> Tensor:
    """What the process before this one sends; this one sends ``x`` to the next. Not waited for."""
    to, source = (peers.index + 1) % peers.size, (peers.index - 1) % peers.size
    give = [x.shape[0] if i == to else 0 for i in range(peers.size)]
    take = [x.shape[0] if i == source else 0 for i in range(peers.size)]
    return torch.ops._c10d_functional.all_to_all_single(x.contiguous(), take, give, peers.name)


def _wait(x: Tensor) -> Tensor:
    return torch.ops._c10d_functional.wait_tensor(x)


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Attention over two sets of keys from attention over each: outputs [B,H,N,D] and log-sum-exps [B,H,N]."""
    both = torch.logaddexp(lse, part_lse)
    return out * (lse - both).exp()[..., None] + part * (part_lse - both).exp()[..., None], both


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Attention to one share of the keys: output and log-sum-exp in float32, and seeds that flash attention keeps.

    Args:
        q: [B, H, N, D]; so are keys and values.
        k: keys.
        v: values.
    """
    if _has_flash(q):
        flash = torch.ops.aten._scaled_dot_product_flash_attention.default
        out, lse, _, _, _, _, *seeds, _ = flash(q, k, v)
        return out.float(), lse, seeds
    scores = _scores(q, k)
    lse = scores.logsumexp(dim=-1)
    return ((scores - lse[..., None]).exp().to(v.dtype) @ v).float(), lse, []


def attend_backward(
    grad: Tensor, inputs: tuple[Tensor, Tensor, Tensor], outputs: tuple[Tensor, Tensor], seeds: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, and of one share's keys and values.

    Args:
        grad: of the output over all keys.
        inputs: queries, and the share's keys and values.
        outputs: output and log-sum-exp over all keys; with these a share's probabilities are the true ones.
        seeds: what `attend` gave.
    """
    (q, k, v), (out, lse) = inputs, outputs
    if _has_flash(q):
        backward = torch.ops.aten._scaled_dot_product_flash_attention_backward.default
        return backward(grad, q, k, v, out, lse, None, None, q.shape[2], k.shape[2], 0.0, False, *seeds)  # type: ignore[no-any-return]
    probabilities = (_scores(q, k) - lse[..., None]).exp()
    along = (grad.float() * out.float()).sum(dim=-1, keepdim=True)
    by_score = (probabilities * ((grad @ v.mT).float() - along)).to(q.dtype) * q.shape[-1] ** -0.5
    return by_score @ k, by_score.mT @ q, probabilities.to(grad.dtype).mT @ grad


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return (q * q.shape[-1] ** -0.5 @ k.mT).float()


def _has_flash(q: Tensor) -> bool:
    return q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256
