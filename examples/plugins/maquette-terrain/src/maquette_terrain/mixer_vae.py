"""An autoencoder of distance and colour grids out of MLP-Mixer blocks (Tolstikhin et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

PATCH = 4


@dataclass
class MixerVAEConfig:
    """Grids of `resolution` cells become (resolution / 4)^3 tokens; each token's code has `latent_channels`."""

    resolution: int = 32
    width: int = 64
    depth: int = 2
    latent_channels: int = 4


class MixerVAEOutput(NamedTuple):
    """What the `vae` objective reads: tsdf, color, mean, logvar."""

    tsdf: Tensor
    color: Tensor
    mean: Tensor
    logvar: Tensor


class MixerBlock(nn.Module):
    """Mixes over the tokens, then over the channels. [B, N, W] -> [B, N, W]."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.token_norm, self.channel_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.over_tokens = nn.Sequential(nn.Linear(tokens, tokens // 4), nn.GELU(), nn.Linear(tokens // 4, tokens))
        self.over_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_tokens(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.channel_norm(x))


class MixerVAE(nn.Module):
    """Plain single-device code: strategies shard it, the step engine trains it."""

    def __init__(self, config: MixerVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.side = config.resolution // PATCH
        tokens, channels = self.side**3, PATCH**3 + 3 * (PATCH // 2) ** 3
        self.embed = nn.Linear(channels, config.width)
        self.encoder = nn.Sequential(*(MixerBlock(tokens, config.width) for _ in range(config.depth)))
        self.moments = nn.Linear(config.width, 2 * config.latent_channels)
        self.expand = nn.Linear(config.latent_channels, config.width)
        self.decoder = nn.Sequential(*(MixerBlock(tokens, config.width) for _ in range(config.depth)))
        self.head = nn.Linear(config.width, channels)

    def blocks(self) -> list[nn.Module]:
        """The repeated parts."""
        return [*self.encoder, *self.decoder]

    def tensor_parallel_plan(self) -> dict[str, str]:
        """The two linears of each MLP, split by columns and by rows."""
        return {"*over_channels.0": "colwise", "*over_channels.2": "rowwise"}

    def forward(self, tsdf: Tensor, color: Tensor) -> MixerVAEOutput:
        """tsdf [B, 1, R, R, R] and color [B, 3, R/2, R/2, R/2] -> the same, and the moments of the code."""
        x = torch.cat([self._fold(tsdf, PATCH), self._fold(color, PATCH // 2)], -1)
        mean, logvar = self.moments(self.encoder(self.embed(x))).chunk(2, -1)
        code = mean + torch.randn_like(mean) * (logvar / 2).exp() if self.training else mean
        shape, paint = self.head(self.decoder(self.expand(code))).split([PATCH**3, 3 * (PATCH // 2) ** 3], -1)
        return MixerVAEOutput(self._unfold(shape, PATCH), self._unfold(paint, PATCH // 2), mean, logvar)

    def _fold(self, grid: Tensor, patch: int) -> Tensor:
        return rearrange(grid, "b c (x p) (y q) (z r) -> b (x y z) (c p q r)", p=patch, q=patch, r=patch)

    def _unfold(self, tokens: Tensor, patch: int) -> Tensor:
        sizes = {"x": self.side, "y": self.side, "z": self.side, "p": patch, "q": patch, "r": patch}
        return rearrange(tokens, "b (x y z) (c p q r) -> b c (x p) (y q) (z r)", **sizes)
