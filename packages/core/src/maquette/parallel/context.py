"""Context parallelism: every process holds its share of each sample's tokens, and attention sees all of them.

Everything but self-attention works on tokens one by one, or on what is replicated (masked attention to a condition's
tokens needs no exchange). The cores of self-attention, ``model.attentions()``, exchange in one of three ways:

- ``ulysses``: all tokens of some heads for some tokens of all heads, and back (Jacobs et al., "DeepSpeed Ulysses",
  2023). Least traffic; needs heads that divide.
- ``all_gather``: keys and values of all tokens, to every process. Most memory; any number of heads.
- ``ring``: keys and values go round while their parts are computed (`maquette.parallel.ring_attention`). Least memory;
  any number of heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.ring_attention import ring_attention
from maquette.parallel.strategy import Strategy
from maquette.parallel.tensor import head_count, mixed
from maquette.parallel.tokens import Peers, exchange, gather, missing, split_tokens

if TYPE_CHECKING:
    from maquette.precision import Precision

NEEDED = ("blocks", "begin", "finish", "token_axes", "attentions")


@dataclass
class ContextConfig:
    """Nothing to set: ``parallel.context`` says over how many processes, ``parallel.attention`` how."""


class ContextParallel(Strategy):
    """What the three ways have in common: the stream's tokens are split, and the cores of attention exchange."""

    axis = "context"

    def __init__(self, config: ContextConfig | None = None) -> None:
        self.config = config or ContextConfig()

    def refuses(self, layout: Layout, model: nn.Module | None, precision: Precision) -> str | None:
        """A model that does not say where its tokens and its attention are."""
        if layout.context == 1 or model is None:
            return None
        if lacking := missing(model, NEEDED):
            return f"{type(model).__name__} declares no {lacking}; context must be 1"
        cores: list[nn.Module] = model.attentions()  # type: ignore[operator]
        if not cores:
            return f"{type(model).__name__}.attentions() names no core of self-attention; context must be 1"
        if any(True for core in cores for _ in core.parameters()):
            return f"{type(model).__name__}.attentions(): a core may hold no parameters"
        return None

    def apply(self, model: nn.Module, mesh: Mesh, precision: Precision) -> None:
        """Let the cores exchange, and split the stream."""
        if mesh.size("context") == 1:
            return
        peers = Peers.along(mesh, "context")
        for core in model.attentions():  # type: ignore[operator]
            self.exchange(core, peers)
        split_tokens(model, mesh)

    def exchange(self, core: nn.Module, peers: Peers) -> None:
        """Change one core of self-attention, in place."""
        raise NotImplementedError


class Ulysses(ContextParallel):
    """Attention of all tokens to all tokens, a share of the heads in each process, by all-to-all before and after."""

    def refuses(self, layout: Layout, model: nn.Module | None, precision: Precision) -> str | None:
        """Heads that the processes do not divide."""
        reason = super().refuses(layout, model, precision)
        if reason or layout.context == 1 or model is None:
            return reason
        heads, ways = head_count(model), layout.size("context", "tensor")
        return None if heads is None or heads % ways == 0 else f"ulysses: {_odd_heads(heads, layout)}"

    def exchange(self, core: nn.Module, peers: Peers) -> None:
        """All tokens of some heads go in, some tokens of all heads come out."""
        core.register_forward_pre_hook(_TokensForHeads(peers))
        core.register_forward_hook(_HeadsForTokens(peers))


class AllGather(ContextParallel):
    """Attention of a share of the tokens to all tokens, whose keys and values are gathered."""

    def exchange(self, core: nn.Module, peers: Peers) -> None:
        """All keys and values go in."""
        core.register_forward_pre_hook(_GatherKeys(peers))


class Ring(ContextParallel):
    """Attention of a share of the tokens to all tokens, whose keys and values come by in turn."""

    def exchange(self, core: nn.Module, peers: Peers) -> None:
        """The core computes by ring instead of by its own code."""
        core.__class__ = mixed(RingCore, type(core))
        core.peers = peers  # type: ignore[assignment]


@dataclass(frozen=True)
class _TokensForHeads:
    peers: Peers

    def __call__(self, core: nn.Module, qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        heads = min(x.shape[2] for x in qkv)
        if any(x.shape[2] % self.peers.size for x in qkv):
            raise MaquetteError(f"ulysses: {heads} heads do not split over context={self.peers.size}; use ring")
        return _together(self._swap, qkv)

    def _swap(self, stacked: Tensor) -> Tensor:
        parts = rearrange(stacked, "s b n (c h) d -> c s b n h d", c=self.peers.size)
        return rearrange(exchange(parts, self.peers), "c s b n h d -> s b (c n) h d")


@dataclass(frozen=True)
class _HeadsForTokens:
    peers: Peers

    def __call__(self, core: nn.Module, qkv: tuple[Tensor, ...], out: Tensor) -> Tensor:
        parts = rearrange(out, "b (c n) h d -> c b n h d", c=self.peers.size)
        return rearrange(exchange(parts, self.peers), "c b n h d -> b n (c h) d")


@dataclass(frozen=True)
class _GatherKeys:
    peers: Peers

    def __call__(self, core: nn.Module, qkv: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (qkv[0], *_together(self._all, qkv[1:]))

    def _all(self, stacked: Tensor) -> Tensor:
        return gather(stacked, 2, self.peers)


class RingCore(nn.Module):
    """A core of self-attention by ring; its own computation must be plain softmax attention scaled by D^-1/2."""

    peers: Peers

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
        if keep is not None:
            raise MaquetteError("ring attention knows no mask over tokens; use attention ulysses or all_gather")
        return ring_attention(q, k, v, self.peers)


def _together(move: Any, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Move tensors [B,N,H,D] in one message where they are alike, and one by one where not (grouped queries)."""
    if len({(x.shape, x.dtype) for x in tensors}) == 1:
        return move(torch.stack(tensors)).unbind(0)  # type: ignore[no-any-return]
    return tuple(move(x[None]).squeeze(0) for x in tensors)


def _odd_heads(heads: int, layout: Layout) -> str:
    own = heads // layout.tensor
    fit = ", ".join(str(n) for n in range(1, own + 1) if own % n == 0)
    return (
        f"{heads} heads do not split over tensor {layout.tensor} x context {layout.context}; "
        f"context would work at: {fit}; ring and all_gather take any number of heads"
    )
