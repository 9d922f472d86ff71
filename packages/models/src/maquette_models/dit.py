"""Diffusion transformer over latent grids: adaLN-single, RMS-normed queries and keys, 3D rotary positions.

Peebles & Xie, "Scalable Diffusion Models with Transformers", 2023; adaLN-single after Chen et al.,
"PixArt-alpha", 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_kernels.ops import gated_norm_modulate, qk_norm_rope
from maquette_models.attention import attend, join_heads, split_heads, to_autocast
from maquette_models.rowwise import rowwise

TIME_FREQUENCIES = 64
THETA = 100.0  # the slowest pair of a head turns about one radian over a grid of a hundred tokens a side
MODULATIONS = 9  # shift, scale and gate for each of self-attention, cross-attention and MLP


@dataclass
class DiTConfig:
    """Sizes of the transformer; `conditioner` is a nested block, built through the hook of that kind.

    Every `cross_every`-th block attends to the condition's tokens; all see its pooled form.
    """

    latent_channels: int = 7
    latent_resolution: int = 8
    patch: int = 2
    width: int = 128
    depth: int = 6
    heads: int = 2
    mlp_ratio: int = 4
    cross_every: int = 2
    conditioner: dict[str, Any] = field(default_factory=lambda: {"name": "class_caption"})


class SelfAttention(nn.Module):
    """Attention among tokens [B,N,W] at integer grid positions [N,3]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width)
        self.to_key = nn.Linear(width, width)
        self.to_value = nn.Linear(width, width)
        self.query_weight = nn.Parameter(torch.ones(width // heads))
        self.key_weight = nn.Parameter(torch.ones(width // heads))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        x = to_autocast(x)
        q, k, v = (split_heads(f(x), self.heads) for f in (self.to_query, self.to_key, self.to_value))
        q, k = qk_norm_rope(q, k, self.query_weight, self.key_weight, positions, theta=THETA)
        return self.out(join_heads(attend(q, k, v)))


class CrossAttention(nn.Module):
    """Attention of tokens [B,N,W] to condition tokens [B,T,W] with a mask [B,T]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width)
        self.to_key = nn.Linear(width, width)
        self.to_value = nn.Linear(width, width)
        self.query_weight = nn.Parameter(torch.ones(width // heads))
        self.key_weight = nn.Parameter(torch.ones(width // heads))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        q = rms_norm(split_heads(self.to_query(x), self.heads), self.query_weight)
        k = rms_norm(split_heads(self.to_key(tokens), self.heads), self.key_weight)
        v = split_heads(self.to_value(tokens), self.heads)
        return self.out(join_heads(attend(q, k, v, mask)))


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm of the last axis, in the dtype of x."""
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps=1e-6)


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class DiTBlock(nn.Module):
    """Self-attention, cross-attention and MLP on a residual stream [B,N,W], each shifted, scaled and gated.

    The nine modulations are the ones shared by all blocks plus this block's own table (adaLN-single).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, cross: bool) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.cross_attention = CrossAttention(width, heads) if cross else None
        self.mlp = MLP(width, mlp_ratio * width)
        self.table = nn.Parameter(torch.randn(MODULATIONS, width) / width**0.5)

    def forward(self, x: Tensor, modulation: Tensor, positions: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = (modulation + self.table).unbind(dim=1)
        h = self.attention(normalized(x, scale1, shift1), positions)
        if self.cross_attention is not None:
            x, h = gated_norm_modulate(x, h.to(x.dtype), gate1, scale2, shift2)
            h, gate1 = self.cross_attention(h, tokens, mask), gate2
        x, h = gated_norm_modulate(x, h.to(x.dtype), gate1, scale3, shift3)
        return x + gate3[:, None] * self.mlp(h)


class DiT(nn.Module):
    """Velocity of a latent grid at a time, given a condition.

    Raises:
        MaquetteError: sizes that do not divide each other.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.conditioner = plugins.build("conditioners", config.conditioner)
        width, side = config.width, config.latent_resolution // config.patch
        values = config.latent_channels * config.patch**3
        self.embed = nn.Linear(values, width)
        self.position = nn.Parameter(torch.randn(side**3, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.context = nn.Linear(self.conditioner.config.width, width)
        self.pooled = nn.Linear(self.conditioner.config.width, width)
        self.modulation = nn.Linear(width, MODULATIONS * width)
        self.layers = nn.ModuleList(
            DiTBlock(width, config.heads, config.mlp_ratio, cross=i % config.cross_every == 0)
            for i in range(config.depth)
        )
        self.head_table = nn.Parameter(torch.zeros(2, width))
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, values)
        for layer in (self.modulation, self.head_modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        axis = torch.arange(side)
        positions = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
        self.register_buffer("positions", positions.to(torch.float32), persistent=False)

    def encode_condition(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the conditioner once for a whole sampling run; `forward` takes the result as its condition
        too."""
        tokens, mask, pooled = self.conditioner(prepared)
        pooled = rowwise(self.pooled, pooled, self.training)
        return {"tokens": self.context(tokens), "mask": mask, "pooled": pooled}

    def forward(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """The velocity at x [B,C,L,L,L] and t [B] in [0,1] (t=1 is noise), of the shape of x.

        `condition` is what `conditioner.prepare` made from a batch, or what `encode_condition` made of that.
        """
        if "tokens" not in condition:
            condition = self.encode_condition(condition)
        tokens, mask = to_autocast(condition["tokens"]), condition["mask"]
        embedding = rowwise(self.time, time_features(t), self.training) + condition["pooled"]
        signal = F.silu(embedding)
        modulation = rearrange(rowwise(self.modulation, signal, self.training), "b (m w) -> b m w", m=MODULATIONS)
        h = self.embed(self.tokens(x)) + self.position
        for layer in self.layers:
            h = layer(h, modulation, self.positions, tokens, mask)
        ends = rearrange(rowwise(self.head_modulation, signal, self.training), "b (m w) -> b m w", m=2)
        shift, scale = (ends + self.head_table).unbind(dim=1)
        return self.grid(self.head(normalized(h, scale, shift)))

    def tokens(self, x: Tensor) -> Tensor:
        """[B,C,L,L,L] -> [B, (L/p)^3, C*p^3]."""
        p = self.config.patch
        return rearrange(x, "b c (x p) (y q) (z r) -> b (x y z) (c p q r)", p=p, q=p, r=p)

    def grid(self, tokens: Tensor) -> Tensor:
        """The inverse of `tokens`."""
        p = self.config.patch
        side = self.config.latent_resolution // p
        pattern = "b (x y z) (c p q r) -> b c (x p) (y q) (z r)"
        return rearrange(tokens, pattern, x=side, y=side, z=side, p=p, q=p, r=p)

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return list(self.layers)

    def tensor_parallel_plan(self) -> dict[str, str]:
        """How each linear layer of a block is split; what is not named is replicated."""
        columns = ("attention.to_query", "attention.to_key", "attention.to_value", "mlp.up")
        cross = tuple(f"cross_{name}" for name in columns[:3])
        rows = ("attention.out", "cross_attention.out", "mlp.down")
        plan = {f"layers.*.{name}": "colwise" for name in columns + cross}
        return plan | {f"layers.*.{name}": "rowwise" for name in rows}


def normalized(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm of [B,N,W] without weights, then scaled by 1 + scale and shifted, [B,W] each."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def time_features(t: Tensor) -> Tensor:
    """Sines and cosines of 1000 t at geometric frequencies: [B] -> [B, 2 * TIME_FREQUENCIES]."""
    steps = torch.arange(TIME_FREQUENCIES, device=t.device, dtype=torch.float32)
    angles = 1000 * t.float()[:, None] * torch.exp(steps * (-math.log(1e4) / TIME_FREQUENCIES))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def check(config: DiTConfig) -> None:
    """Refuse sizes that do not divide each other."""
    if config.width % config.heads:
        raise MaquetteError(f"architecture 'dit': width {config.width} is no multiple of {config.heads} heads")
    if config.latent_resolution % config.patch:
        raise MaquetteError(
            f"architecture 'dit': side {config.latent_resolution} is no multiple of patch {config.patch}"
        )
