"""Autoencoder of paint: points of a surface <-> a few channels at each coarse cell that it passes, given the shape.

A cell is encoded from its own points, and paint is decoded at any point of the surface, from the cells about it: so
textures can be as fine as wanted, and edges of colours are as sharp as the decoder can draw them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_kernels.ops import sample_sparse_trilinear
from maquette_models.texturing.painted_points import CHANNELS, Cells, PaintedPoints
from maquette_models.transformer.attention import cast_for

LOGVAR = (-12, 4)
MEAN_LOGVAR = -6.0  # of the mean paint: a generator's is not quite exact either
LEAST_RESOLUTION = 2
FIRST_LOGVAR = -4.0  # a latent that begins as mostly noise is learnt late


@dataclass
class PaintVAEConfig:
    """A grid of `resolution` cells a side; each has its mean paint, `detail_channels` more of paint, and
    `shape_channels`. Places within a cell are told by `frequencies` harmonics; MLPs have `depth` hidden layers of
    `width`."""

    resolution: int = 8
    detail_channels: int = 10
    shape_channels: int = 12
    width: int = 96
    depth: int = 2
    frequencies: int = 4


class PaintVAEOutput(NamedTuple):
    """paint [B,Q,6] in -1..1 at the queries; mean and logvar float32 [N,C] of the cells."""

    paint: Tensor
    mean: Tensor
    logvar: Tensor


class PaintVAE(nn.Module):
    """The latent of a cell is its mean paint and what the encoder adds; the decoder adds to interpolated mean paint. So
    colours are right from the first step on, and what is learnt is where they change.

    What is known of a cell's shape is not in its latent: both decoder and generator are given it.
    """

    def __init__(self, config: PaintVAEConfig) -> None:
        super().__init__()
        if config.resolution < LEAST_RESOLUTION or min(config.detail_channels, config.shape_channels, config.depth) < 1:
            raise MaquetteError(
                f"architecture 'paint_vae': resolution {config.resolution} must be at least {LEAST_RESOLUTION}, "
                "detail_channels, shape_channels and depth at least 1"
            )
        self.config = config
        width, place = config.width, 6 * config.frequencies
        points = 6 + place
        self.shape_points = layers(points, width, config.depth, width)
        self.shape_cells = layers(width, width, 1, config.shape_channels)
        self.paint_points = layers(points + len(CHANNELS), width, config.depth, width)
        self.paint_cells = layers(width + config.shape_channels, width, 1, 2 * config.detail_channels)
        with torch.no_grad():
            self.paint_cells[-1].bias[config.detail_channels :].add_(FIRST_LOGVAR)
        queries = self.channels + config.shape_channels + place + 3
        self.decoder = layers(queries, width, config.depth + 1, len(CHANNELS))
        for parameter in self.decoder[-1].parameters():  # starts with the mean paint alone
            nn.init.zeros_(parameter)

    @property
    def channels(self) -> int:
        """Of the latent: those of paint, then those of detail."""
        return len(CHANNELS) + self.config.detail_channels

    @property
    def latent_resolution(self) -> int:
        """Cells a side."""
        return self.config.resolution

    def forward(self, points: PaintedPoints, queries: PaintedPoints, noise: Tensor | None = None) -> PaintVAEOutput:
        """Paint of queries through the latent of points: its mean, or a sample of it where there is standard normal
        noise [B,R,R,R,C]. The queries' own paint is not looked at."""
        cells, shape = self.shape(points.places, points.normals)
        mean, logvar = self.moments(points, cells, shape)
        latent = mean
        if noise is not None:
            latent = mean + noise[tuple(cells.coords.long().unbind(1))] * torch.exp(0.5 * logvar)
        return PaintVAEOutput(self.decode(latent, shape, cells, queries.places, queries.normals), mean, logvar)

    def noise_shape(self, rows: int) -> tuple[int, ...]:
        """Noise has a place for every cell of the grid, so that a cell's does not depend on which others there are."""
        return (rows, *[self.config.resolution] * 3, self.channels)

    def shape(self, places: Tensor, normals: Tensor) -> tuple[Cells, Tensor]:
        """The cells that points [B,P,3] lie in, and what is to be known of the shape in each, float32 [N,S]."""
        cells = Cells.of(places, self.config.resolution)
        seen = self.shape_points(cast_for(self.shape_points[0], self.point_features(places, normals)))
        return cells, self.shape_cells(cast_for(self.shape_cells[0], cells.means(seen))).float()

    def moments(self, points: PaintedPoints, cells: Cells, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of the cells' latent [N,C] and the logarithm of its variance; float32."""
        known = torch.cat([self.point_features(points.places, points.normals), points.paint.flatten(0, 1)], dim=-1)
        seen = cells.means(self.paint_points(cast_for(self.paint_points[0], known)))
        both = self.paint_cells(cast_for(self.paint_cells[0], torch.cat([seen, shape], dim=-1)))
        detail, logvar = both.float().chunk(2, dim=-1)
        paint = cells.means(points.paint.flatten(0, 1))
        exact = torch.full_like(paint, MEAN_LOGVAR)
        return torch.cat([paint, detail], dim=-1), torch.cat([exact, logvar.clamp(*LOGVAR)], dim=-1)

    def decode(self, latent: Tensor, shape: Tensor, cells: Cells, places: Tensor, normals: Tensor) -> Tensor:
        """Paint [B,Q,6] in -1..1 at places [B,Q,3] with normals; those far from any cell get what the decoder makes of
        nothing."""
        rows, count = places.shape[:2]
        row = torch.arange(rows, dtype=torch.int32, device=places.device).repeat_interleave(count)
        at = (places.flatten(0, 1) + 0.5) * self.config.resolution - 0.5
        features = torch.cat([latent, shape], dim=-1).float()
        near = sample_sparse_trilinear(features, cells.coords, at, row, renormalise=True)
        query = torch.cat([near, self.harmonics(places).flatten(0, 1), normals.flatten(0, 1)], dim=-1)
        paint = near[:, : len(CHANNELS)] + self.decoder(cast_for(self.decoder[0], query)).float()
        return paint.view(rows, count, -1)

    def point_features(self, places: Tensor, normals: Tensor) -> Tensor:
        """Where points [B,P,3] are in their cells, and their normals: [B*P,6+6F]."""
        within = ((places + 0.5) * self.config.resolution).frac() * 2 - 1
        return torch.cat([within, normals, self.harmonics(places)], dim=-1).flatten(0, 1)

    def harmonics(self, places: Tensor) -> Tensor:
        """Sines and cosines that repeat from cell to cell, so that nothing jumps between them: [...,3] -> [...,6F]."""
        orders = torch.arange(1, self.config.frequencies + 1, device=places.device) * (2 * math.pi)
        angles = (((places + 0.5) * self.config.resolution)[..., None] * orders).flatten(-2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def flops(self, batch: Mapping[str, Any]) -> int:
        """Twice the multiply-adds of a forward pass that encodes and decodes each of a batch's points; what is done by
        cell, which are few, is not counted."""
        parts = (self.shape_points, self.paint_points, self.decoder)
        weights = sum(layer.weight.numel() for part in parts for layer in part if isinstance(layer, nn.Linear))
        return 2 * weights * batch["surface"].shape[0] * batch["surface"].shape[1]

    def blocks(self) -> list[nn.Module]:
        """The five MLPs."""
        return [self.shape_points, self.shape_cells, self.paint_points, self.paint_cells, self.decoder]

    def tensor_parallel_plan(self) -> dict[str, str]:
        """Nothing to split: MLPs this small are replicated."""
        return {}


def layers(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """An MLP with `depth` hidden layers, each normalised: without that colours were hardly learnt at all."""
    found: list[nn.Module] = []
    for size in [inputs, *[width] * (depth - 1)]:
        found += [nn.Linear(size, width), nn.LayerNorm(width), nn.SiLU()]
    return nn.Sequential(*found, nn.Linear(width, outputs))
