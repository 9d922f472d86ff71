"""Autoencoder of shapes as sets of tokens that are anchored at coarse voxels (VoxSet), after LATTICE, 2025."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_models.reconstructs import Reconstruction
from maquette_models.voxset.anchors import Anchors, choose_anchors, surface_voxels, to_voxels
from maquette_models.voxset.encoder import Encoder, flagged
from maquette_models.voxset.field_decoder import FieldDecoder
from maquette_models.voxset.field_grid import Pieces, color_grid, extracted, finished, tsdf_grid
from maquette_models.voxset.surface_cloud import SurfaceCloud
from maquette_models.voxset.token_block import TokenBlock

FIELDS = ("surface", "normals", "surface_color", "sharp", "sharp_normals")


@dataclass
class VoxSetVAEConfig:
    """Sizes; a token has `shape_channels + color_channels` channels.

    `anchor_resolution` is the side of the grid of anchors, `tokens` how many of them a shape is encoded on where nobody
    says otherwise, `truncation` the distance that fields are told in units of. Widths are those of tokens, of what the
    encoder makes of surface points, of queries, and of the colour branch. `point_neighbours` and `neighbours` are how
    many points an anchor and how many tokens a query attends to; 0 is all. The encoder reads `points_per_token` points
    of the surface for each token, and `sharp_per_token` of its edges, so that neighbourhoods keep up with the anchors.
    """

    anchor_resolution: int = 16
    tokens: int = 256
    truncation: float = 0.05
    width: int = 128
    heads: int = 4
    encoder_depth: int = 1
    decoder_depth: int = 2
    point_width: int = 64
    query_width: int = 96
    color_width: int = 48
    color_depth: int = 1
    shape_channels: int = 8
    color_channels: int = 4
    point_neighbours: int = 24
    color_neighbours: int = 8
    neighbours: int = 8
    points_per_token: int = 16
    sharp_per_token: int = 4
    resolution: int = 64
    """Of the grid that a reconstruction is extracted from."""


class VoxSetVAEOutput(NamedTuple):
    """sdf [B,M] in truncations, color [B,S,3]; mean and logvar [B,N,C], 0 where `mask` [B,N] is False."""

    sdf: Tensor
    color: Tensor
    mean: Tensor
    logvar: Tensor
    mask: Tensor


class VoxSetVAE(nn.Module):
    """Shape and colour have branches of their own; the colour decoder sees the whole latent.

    Raises:
        MaquetteError: sizes that do not divide each other.
    """

    def __init__(self, config: VoxSetVAEConfig) -> None:
        super().__init__()
        check(config)
        self.config = c = config
        shape = {"width": c.width, "heads": c.heads}
        color = {"width": c.color_width, "heads": c.heads}
        self.shape_encoder = Encoder(
            4,
            c.shape_channels,
            point_width=c.point_width,
            depth=c.encoder_depth,
            neighbours=c.point_neighbours,
            **shape,
        )
        self.color_encoder = Encoder(
            6, c.color_channels, point_width=c.color_width, depth=0, neighbours=c.color_neighbours, **color
        )
        self.shape_decoder = FieldDecoder(
            c.shape_channels, 1, depth=c.decoder_depth, query_width=c.query_width, neighbours=c.neighbours, **shape
        )
        self.color_decoder = FieldDecoder(
            self.channels, 3, depth=c.color_depth, query_width=c.color_width, neighbours=c.neighbours, **color
        )
        self.apply(initialise)
        for encoder in (self.shape_encoder, self.color_encoder):
            encoder.silence()
        for decoder in (self.shape_decoder, self.color_decoder):
            nn.init.zeros_(decoder.head.weight)

    @property
    def channels(self) -> int:
        """Channels of a latent, shape before colour."""
        return self.config.shape_channels + self.config.color_channels

    @property
    def latent_resolution(self) -> int:
        """Cells a side of the anchors' grid."""
        return self.config.anchor_resolution

    def forward(
        self,
        cloud: SurfaceCloud,
        anchors: Anchors,
        queries: Tensor,
        color_queries: Tensor,
        noise: Tensor | None = None,
    ) -> VoxSetVAEOutput:
        """Fields at `queries` [B,M,3] and `color_queries` [B,S,3] of the unit cube, through the latent's mean, or a
        sample of it where there is standard normal noise [B,N,C]."""
        mean, logvar = self.moments(cloud, anchors)
        latent = mean if noise is None else mean + noise * torch.exp(0.5 * logvar) * anchors.mask[..., None]
        sdf = self.shape_decoder(self.shape_of(latent), anchors, self.voxels(queries))[..., 0]
        color = self.color_decoder(latent, anchors, self.voxels(color_queries)) * 0.5 + 0.5
        return VoxSetVAEOutput(sdf, color, mean, logvar, anchors.mask)

    def moments(self, cloud: SurfaceCloud, anchors: Anchors) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent, float32 [B,N,C] each, at anchors that may lie anywhere."""
        config, counts = self.config, anchors.mask.sum(dim=1)
        points, sharp = self.voxels(cloud.points), self.voxels(cloud.sharp)
        kept = first(points, config.points_per_token * counts)
        normals = torch.cat([flagged(cloud.normals, False), flagged(cloud.sharp_normals, True)], dim=1)
        both = torch.cat([kept, first(sharp, config.sharp_per_token * counts)], dim=1)
        shape = self.shape_encoder(normals, torch.cat([points, sharp], dim=1), both, anchors)
        colors = torch.cat([cloud.normals, cloud.colors * 2 - 1], dim=-1)
        color = self.color_encoder(colors, points, kept, anchors)
        means, logvars = zip(*(moments.float().chunk(2, dim=-1) for moments in (shape, color)), strict=True)
        keep = anchors.mask[..., None]
        return torch.cat(means, dim=-1) * keep, torch.cat(logvars, dim=-1).clamp(-12, 4) * keep

    def encode(self, batch: Mapping[str, Any] | SurfaceCloud, anchors: Anchors) -> Tensor:
        """The mean latent [B,N,C] of a batch with the fields `surface`, `normals`, and `surface_color`, `sharp` and
        `sharp_normals` where they are known; or of a cloud."""
        cloud = batch if isinstance(batch, SurfaceCloud) else SurfaceCloud.of_batch(batch)
        return self.moments(cloud, anchors)[0]

    def anchors_of(self, points: Tensor, count: int | Sequence[int] = 0, seed: int | Sequence[int] = 0) -> Anchors:
        """Anchors of surfaces given by points [B,P,3] of the unit cube: at most `count` each (0: as configured), chosen
        by a seed, one for all or one a sample."""
        voxels = [surface_voxels(row, self.config.anchor_resolution) for row in points]
        return choose_anchors(voxels, for_each(count or self.config.tokens, len(voxels)), for_each(seed, len(voxels)))

    def decode_fields(self, latent: Tensor, positions: Tensor, mask: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distance [B,M], in truncations and clipped to [-1,1], and colour [B,M,3] in [0,1] at queries [B,M,3]
        of the unit cube."""
        anchors, places = Anchors(positions, mask), self.voxels(queries)
        sdf = self.shape_decoder(self.shape_of(latent), anchors, places)[..., 0]
        color = self.color_decoder(latent, anchors, places) * 0.5 + 0.5
        return sdf.clamp(-1, 1), color.clamp(0, 1)

    def tsdf_grid(self, latent: Tensor, positions: Tensor, mask: Tensor, resolution: int) -> Tensor:
        """The distance grid [B,1,R,R,R] of latents, cell-centred, in truncations."""
        return torch.stack([finished(row) for row in self.tsdf_pieces(latent, Anchors(positions, mask), resolution)])

    def color_grid(self, latent: Tensor, positions: Tensor, mask: Tensor, resolution: int) -> Tensor:
        """The colour grid [B,3,R,R,R] of latents in [0,1], cell-centred; gray where no surface is near."""
        return torch.stack([finished(row) for row in self.color_pieces(latent, Anchors(positions, mask), resolution)])

    def tsdf_pieces(self, latent: Tensor, anchors: Anchors, resolution: int) -> Iterator[Pieces]:
        """The way to each sample's distance grid [1,R,R,R], chunk by chunk."""
        tokens = self.shape_decoder.tokens(self.shape_of(latent), anchors)
        sizes = {"side": self.config.anchor_resolution, "truncation": self.config.truncation}
        return (tsdf_grid(self.shape_decoder, *row, resolution, **sizes) for row in each(tokens, anchors))

    def color_pieces(self, latent: Tensor, anchors: Anchors, resolution: int) -> Iterator[Pieces]:
        """The way to each sample's colour grid [3,R,R,R], chunk by chunk."""
        tokens, side = self.color_decoder.tokens(latent, anchors), self.config.anchor_resolution
        return (color_grid(self.color_decoder, *row, resolution, side=side) for row in each(tokens, anchors))

    def reconstruction_fields(self) -> tuple[str, ...]:
        """What `reconstruct` and `encode` read."""
        return FIELDS

    @torch.inference_mode()
    def reconstruct(self, batch: Mapping[str, Any]) -> list[Reconstruction]:
        """A batch through its latents on `tokens` anchors and back to meshes."""
        anchors = self.anchors_of(batch["surface"])
        latent = self.encode(batch, anchors)
        resolution = self.config.resolution
        grids = zip(
            self.tsdf_grid(latent, *anchors, resolution),
            self.color_grid(latent, *anchors, resolution // 2),
            anchors.mask.sum(dim=1).tolist(),
            strict=True,
        )
        return [extracted(*grid) for grid in grids]

    def voxels(self, points: Tensor) -> Tensor:
        """Points of the unit cube in voxels of the anchors' grid."""
        return to_voxels(points, self.config.anchor_resolution)

    def shape_of(self, latent: Tensor) -> Tensor:
        """The channels that tell the shape."""
        return latent[..., : self.config.shape_channels]

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return [module for module in self.modules() if isinstance(module, TokenBlock)]

    def tensor_parallel_plan(self) -> dict[str, str]:
        """Nothing is split: what costs is attention to neighbours, which has no large matrices."""
        return {}

    def token_count(self, batch: Mapping[str, Any]) -> int:
        """How many tokens go through the blocks for a batch."""
        return len(batch["surface"]) * self.config.tokens

    def example_batch(self, rows: int) -> dict[str, Tensor]:
        """A batch of the right shapes, for planning."""
        points, sharp = (self.config.tokens * n for n in (self.config.points_per_token, self.config.sharp_per_token))
        sizes = dict.fromkeys(FIELDS[:3], points) | dict.fromkeys(FIELDS[3:], sharp) | {"near": 1024, "volume": 256}
        batch = {name: torch.zeros(rows, size, 3) for name, size in sizes.items()}
        batch |= {f"{name}_sdf": torch.zeros(rows, sizes[name]) for name in ("near", "volume")}
        return {**batch, "position": torch.arange(rows)}

    def flops(self, batch: Mapping[str, Tensor]) -> int:
        """Twice the multiply-adds of the matrix products of a forward pass that asks for a batch's `near` and `volume`
        points."""
        rows, tokens, points = len(batch["surface"]), self.config.tokens, batch["surface"].shape[1]
        queries = batch["near"].shape[1] + batch["volume"].shape[1]
        encoding = self.shape_encoder.flops(rows, tokens, points + batch["sharp"].shape[1])
        decoding = self.shape_decoder.flops(rows, tokens, queries) + self.color_decoder.flops(rows, tokens, queries)
        return encoding + self.color_encoder.flops(rows, tokens, points) + decoding


def each(tokens: Tensor, anchors: Anchors) -> Iterator[tuple[Tensor, Anchors]]:
    """The samples of tokens [B,N,W] at anchors one by one, each as a batch of one."""
    for one, positions, mask in zip(tokens, *anchors, strict=True):
        yield one[None], Anchors(positions[None], mask[None])


def for_each(value: int | Sequence[int], rows: int) -> Sequence[int]:
    """One value for every row."""
    return [value] * rows if isinstance(value, int) else value


def first(points: Tensor, counts: Tensor) -> Tensor:
    """bool [B,P], True for the first `counts` [B] of points [B,P,3]."""
    return torch.arange(points.shape[1], device=points.device) < counts[:, None]


def initialise(module: nn.Module) -> None:
    """Linear layers keep the variance of what they read, and add nothing to it."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(module.bias)


def check(config: VoxSetVAEConfig) -> None:
    """Refuse sizes that do not divide each other."""
    for key in ("width", "point_width", "query_width", "color_width"):
        size = getattr(config, key)
        if size % config.heads or size // config.heads % 2:
            raise MaquetteError(f"architecture 'voxset_vae': {key} {size} is no multiple of 2 x {config.heads} heads")
    for key in ("anchor_resolution", "tokens", "shape_channels", "color_channels", "points_per_token"):
        if getattr(config, key) < 1:
            raise MaquetteError(f"architecture 'voxset_vae': {key} {getattr(config, key)} must be at least 1")
