"""Dense-grid autoencoder of shape and colour: a 64^3 distance field and a 32^3 colour field <-> an 8^3 latent
grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig
from maquette_models.reconstructs import Reconstruction

COLOR_FACTOR = 2  # the colour grid has half the resolution of the distance grid
DOWN = 2  # from the fine grid, of resolution/patch cells a side, to the latent grid
GROUPS = 8
FINE = ("shape_encoder.embed", "shape_encoder.blocks", "shape_decoder.blocks", "shape_decoder.head")  # on the fine grid


@dataclass
class GridVAEConfig:
    """Sizes; the latent grid has `resolution / (2 * patch)` cells a side and `shape_channels +
    color_channels` channels.

    Widths are those of the fine grid (resolution/patch), of the latent grid, and of the colour branch.
    """

    resolution: int = 64
    patch: int = 4
    width: int = 32
    deep_width: int = 96
    color_width: int = 64
    depth: int = 1
    deep_depth: int = 2
    shape_channels: int = 4
    color_channels: int = 3


class GridVAEOutput(NamedTuple):
    """tsdf [B,1,R,R,R], color [B,3,R/2,R/2,R/2] in about [0,1]; mean and logvar [B,C,L,L,L]."""

    tsdf: Tensor
    color: Tensor
    mean: Tensor
    logvar: Tensor


def fold(x: Tensor, patch: int) -> Tensor:
    """Space to channels: [B, C, R, R, R] -> [B, C*patch^3, R/patch, R/patch, R/patch]."""
    return rearrange(x, "b c (x p) (y q) (z r) -> b (c p q r) x y z", p=patch, q=patch, r=patch)


def unfold(x: Tensor, patch: int) -> Tensor:
    """Channels to space, the inverse of `fold`."""
    return rearrange(x, "b (c p q r) x y z -> b c (x p) (y q) (z r)", p=patch, q=patch, r=patch)


class ResidualBlock(nn.Module):
    """x + project(silu(conv(norm(x)))) over [B,W,N,N,N]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.conv = nn.Conv3d(width, width, 3, padding=1)
        self.project = nn.Conv3d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(F.silu(self.conv(self.norm(x))))


def residual_blocks(width: int, depth: int) -> nn.Sequential:
    """`depth` residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))


class ShapeEncoder(nn.Module):
    """tsdf [B,1,R,R,R] -> moments [B,2*C,L,L,L]."""

    def __init__(self, config: GridVAEConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.embed = nn.Conv3d(config.patch**3, config.width, 1)
        self.blocks = residual_blocks(config.width, config.depth)
        self.down = nn.Conv3d(config.width, config.deep_width, DOWN, stride=DOWN)
        self.deep_blocks = residual_blocks(config.deep_width, config.deep_depth)
        self.norm = nn.GroupNorm(GROUPS, config.deep_width)
        self.moments = nn.Conv3d(config.deep_width, 2 * config.shape_channels, 1)

    def forward(self, tsdf: Tensor) -> Tensor:
        x = self.embed(fold(tsdf, self.patch).contiguous(memory_format=torch.channels_last_3d))
        return self.moments(self.norm(self.deep_blocks(self.down(self.blocks(x)))))


class ShapeDecoder(nn.Module):
    """Shape channels of a latent [B,C,L,L,L] -> tsdf [B,1,R,R,R]."""

    def __init__(self, config: GridVAEConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.embed = nn.Conv3d(config.shape_channels, config.deep_width, 1)
        self.deep_blocks = residual_blocks(config.deep_width, config.deep_depth)
        self.up = nn.ConvTranspose3d(config.deep_width, config.width, DOWN, stride=DOWN)
        self.blocks = residual_blocks(config.width, config.depth)
        self.norm = nn.GroupNorm(GROUPS, config.width)
        self.head = nn.Conv3d(config.width, config.patch**3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.embed(latent.contiguous(memory_format=torch.channels_last_3d))
        x = self.blocks(self.up(self.deep_blocks(x)))
        return unfold(self.head(F.silu(self.norm(x))), self.patch)


class ColorEncoder(nn.Module):
    """color [B,3,S,S,S] -> moments [B,2*C,L,L,L]."""

    def __init__(self, config: GridVAEConfig) -> None:
        super().__init__()
        self.patch = DOWN * config.patch // COLOR_FACTOR
        self.embed = nn.Conv3d(3 * self.patch**3, config.color_width, 1)
        self.blocks = residual_blocks(config.color_width, 1)
        self.norm = nn.GroupNorm(GROUPS, config.color_width)
        self.moments = nn.Conv3d(config.color_width, 2 * config.color_channels, 1)

    def forward(self, color: Tensor) -> Tensor:
        x = fold(color * 2 - 1, self.patch).contiguous(memory_format=torch.channels_last_3d)
        return self.moments(self.norm(self.blocks(self.embed(x))))


class ColorDecoder(nn.Module):
    """The whole latent [B,C,L,L,L] -> color [B,3,S,S,S]: where colours change is where shapes do."""

    def __init__(self, config: GridVAEConfig) -> None:
        super().__init__()
        self.patch = DOWN * config.patch // COLOR_FACTOR
        self.embed = nn.Conv3d(config.shape_channels + config.color_channels, config.color_width, 1)
        self.blocks = residual_blocks(config.color_width, 2)
        self.norm = nn.GroupNorm(GROUPS, config.color_width)
        self.head = nn.Conv3d(config.color_width, 3 * self.patch**3, 1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.blocks(self.embed(latent.contiguous(memory_format=torch.channels_last_3d)))
        return unfold(self.head(F.silu(self.norm(x))), self.patch) * 0.5 + 0.5


class GridVAE(nn.Module):
    """Shape and colour have branches of their own, so that neither loss takes capacity from the other.

    Raises:
        MaquetteError: sizes that do not divide each other.
    """

    def __init__(self, config: GridVAEConfig) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.shape_encoder = ShapeEncoder(config)
        self.shape_decoder = ShapeDecoder(config)
        self.color_encoder = ColorEncoder(config)
        self.color_decoder = ColorDecoder(config)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, tsdf: Tensor, color: Tensor, noise: Tensor | None = None) -> GridVAEOutput:
        """Reconstruct tsdf [B,1,R,R,R] and color [B,3,R/2,R/2,R/2] through a latent: its mean, or a sample of it
        where there is standard normal noise of `latent_shape`."""
        mean, logvar = self.moments(tsdf, color)
        latent = mean if noise is None else mean + noise * torch.exp(0.5 * logvar)
        return GridVAEOutput(*self.decode(latent), mean, logvar)

    def latent_shape(self, tsdf: Tensor) -> tuple[int, ...]:
        """(B, C, L, L, L) for distance grids [B,1,R,R,R]."""
        side = tsdf.shape[-1] // (DOWN * self.config.patch)
        return (len(tsdf), self.config.shape_channels + self.config.color_channels, side, side, side)

    def moments(self, tsdf: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent, float32 [B,C,L,L,L] each."""
        shape_mean, shape_logvar = self.shape_encoder(tsdf).float().chunk(2, dim=1)
        color_mean, color_logvar = self.color_encoder(color).float().chunk(2, dim=1)
        logvar = torch.cat([shape_logvar, color_logvar], dim=1)
        return torch.cat([shape_mean, color_mean], dim=1), logvar.clamp(-12, 4)

    def encode(self, tsdf: Tensor, color: Tensor) -> Tensor:
        """The mean latent [B,C,L,L,L]."""
        return self.moments(tsdf, color)[0]

    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Distance [B,1,R,R,R] and colour [B,3,R/2,R/2,R/2] of a latent."""
        return self.shape_decoder(latent[:, : self.config.shape_channels]), self.color_decoder(latent)

    def reconstruction_fields(self) -> tuple[str, ...]:
        """See `evaluation.protocol.Reconstructs`."""
        return ("tsdf", "color")

    @torch.inference_mode()
    def reconstruct(self, batch: Mapping[str, Any]) -> list[Reconstruction]:
        """See `evaluation.protocol.Reconstructs`: the zero surface of the decoded distance, crumbs included."""
        extract = MarchingCubes(MarchingCubesConfig(min_component=0.0))
        tsdf, color = (field.float() for field in self.decode(self.encode(batch["tsdf"], batch["color"])))
        return [
            Reconstruction(extract(one, paint) if bool((one < 0).any()) else None, one)
            for one, paint in zip(tsdf, color, strict=True)
        ]

    def flops(self, batch: Mapping[str, Tensor]) -> int:
        """Twice the multiply-adds of the convolutions of one forward pass on a batch's `tsdf` [B,1,R,R,R]."""
        fine = (batch["tsdf"].shape[-1] // self.config.patch) ** 3
        convolutions = [(name, m) for name, m in self.named_modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
        a_sample = sum(
            2 * conv.weight.numel() * (fine if name.startswith(FINE) else fine // DOWN**3)
            for name, conv in convolutions
        )
        return len(batch["tsdf"]) * a_sample

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return [module for module in self.modules() if isinstance(module, ResidualBlock)]

    def tensor_parallel_plan(self) -> dict[str, str]:
        """Nothing to split: convolutions this small are replicated."""
        return {}


def check(config: GridVAEConfig) -> None:
    """Refuse sizes that do not divide each other."""
    if config.patch % COLOR_FACTOR or config.resolution % (DOWN * config.patch):
        raise MaquetteError(
            f"architecture 'grid_vae': resolution {config.resolution} must be a multiple of {DOWN} x patch "
            f"({config.patch}), and patch even"
        )
    for key in ("width", "deep_width", "color_width"):
        if getattr(config, key) % GROUPS:
            raise MaquetteError(f"architecture 'grid_vae': {key} {getattr(config, key)} is no multiple of {GROUPS}")
