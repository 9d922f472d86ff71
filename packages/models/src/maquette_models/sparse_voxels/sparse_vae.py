"""Autoencoder of voxel surfaces: a dual grid with its paint <-> a few channels in each voxel of a coarse grid.

After the SC-VAE of TRELLIS.2 (Xiang et al. 2025): encoder and decoder of sparse blocks with residual resampling; the
decoder predicts which of a voxel's eight children there are, so that a latent needs no fine structure beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_kernels.sparse.tensor import SparseTensor
from maquette_models.reconstructs import Reconstruction
from maquette_models.sparse_voxels.branches import BranchConfig, SparseDecoder, SparseEncoder, Subdivision
from maquette_models.sparse_voxels.dual_grid_decoder import DualGrid, DualGridConfig
from maquette_models.sparse_voxels.residual_blocks import SparseBlock
from maquette_models.sparse_voxels.surface_features import (
    FIELDS,
    PAINT_CHANNELS,
    SHAPE_CHANNELS,
    batch_surfaces,
    sparse_surfaces,
    split_surfaces,
)
from maquette_models.sparse_voxels.voxel_surface import VoxelSurface

LOGVAR = (-12, 4)


@dataclass
class SparseVAEConfig:
    """Shape and paint have branches of as many levels. A level has voxels of twice the edge of the one before, so the
    latent grid has ``resolution / 2^(levels - 1)`` cells a side."""

    resolution: int = 64
    shape: BranchConfig = field(default_factory=BranchConfig)
    paint: BranchConfig = field(default_factory=lambda: BranchConfig([8, 16, 32], [0, 0, 1], 4))


class SparseVAEOutput(NamedTuple):
    """What the decoder says of the true structure, and the latent's moments.

    Attributes:
        features: [N,14], see `surface_features`.
        subdivision: logits [M,8] of each level but the finest, the coarsest first.
        present: bool [M,8], the children that there are, in the same order.
        mean, logvar: float32 [L,C].
    """

    features: Tensor
    subdivision: tuple[Tensor, ...]
    present: tuple[Tensor, ...]
    mean: Tensor
    logvar: Tensor


class SparseVAE(nn.Module):
    """Open surfaces stay open and hidden ones stay: nothing here asks for an inside.

    Shape and paint have branches of their own, so that neither loss takes capacity from the other. The decoder of paint
    sees the whole latent, since colours change where shapes do.

    Raises:
        MaquetteError: sizes that do not fit each other.
    """

    def __init__(self, config: SparseVAEConfig) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.shape_encoder = SparseEncoder(SHAPE_CHANNELS, config.shape)
        self.paint_encoder = SparseEncoder(PAINT_CHANNELS, config.paint)
        self.shape_decoder = SparseDecoder(config.shape.channels, SHAPE_CHANNELS, config.shape, splits=True)
        self.paint_decoder = SparseDecoder(self.channels, PAINT_CHANNELS, config.paint, splits=False)
        self.surface_decoder = DualGrid(DualGridConfig())

    @property
    def channels(self) -> int:
        """Of the latent: those of the shape, then those of the paint."""
        return self.config.shape.channels + self.config.paint.channels

    @property
    def latent_resolution(self) -> int:
        """Cells a side of the latent grid."""
        return self.config.resolution >> (len(self.config.shape.widths) - 1)

    def forward(self, x: SparseTensor, noise: Tensor | None = None) -> SparseVAEOutput:
        """Reconstruct features [N,14] through a latent: its mean, or a sample of it where there is standard normal
        noise [B,L,L,L,C] of `noise_shape`."""
        mean, logvar = self.moments(x)
        latent = mean.features
        if noise is not None:
            latent = latent + noise[tuple(mean.coords.long().unbind(1))] * torch.exp(0.5 * logvar)
        route = [Subdivision.of(fine) for fine in self.structure(x)[-2::-1]]
        decoded, logits = self.decode_features(mean.replace(latent), route)
        present = tuple(step.present() for step in route)
        return SparseVAEOutput(decoded.features, tuple(logits), present, mean.features, logvar)

    def noise_shape(self, rows: int) -> tuple[int, ...]:
        """Noise has a place for every cell of the latent grid, so that a cell's does not depend on which others there
        are."""
        return (rows, *[self.latent_resolution] * 3, self.channels)

    def moments(self, x: SparseTensor) -> tuple[SparseTensor, Tensor]:
        """Mean of the latent [L,C] on the coarsest voxels, and the logarithm of its variance; float32."""
        shape, paint = x.features.split([SHAPE_CHANNELS, PAINT_CHANNELS], dim=1)
        of_shape, of_paint = self.shape_encoder(x.replace(shape)), self.paint_encoder(x.replace(paint))
        means, logvars = zip(*(part.features.float().chunk(2, dim=1) for part in (of_shape, of_paint)), strict=True)
        return of_shape.replace(torch.cat(means, dim=1)), torch.cat(logvars, dim=1).clamp(*LOGVAR)

    def decode_features(
        self, latent: SparseTensor, route: list[Subdivision] | None = None
    ) -> tuple[SparseTensor, list[Tensor]]:
        """Output features [N,14] of a latent on sorted voxels, along a route or along predicted subdivisions, and the
        logits [M,8] of those."""
        own = latent.replace(latent.features[:, : self.config.shape.channels])
        shape, taken, logits = self.shape_decoder(own, route)
        paint, _, _ = self.paint_decoder(latent, taken)
        return shape.replace(torch.cat([shape.features, paint.features], dim=1)), logits

    def structure(self, x: SparseTensor) -> list[SparseTensor]:
        """The voxels of every level, the finest, x itself, first; remembered by x."""
        found = [x]
        while len(found) < len(self.config.shape.widths):
            found.append(found[-1].coarsened()[0])
        return found

    def surfaces(self, batch: Mapping[str, Any]) -> list[VoxelSurface]:
        """The surfaces of a batch of shards."""
        return batch_surfaces(batch, self.config.resolution)

    def encode(self, surfaces: list[VoxelSurface]) -> SparseTensor:
        """The mean latent [L,C] of some surfaces, the batch elements."""
        return self.moments(sparse_surfaces(surfaces))[0]

    def decode(self, latent: SparseTensor) -> list[VoxelSurface]:
        """The surface of each batch element of a latent [L,C], on sorted voxels of stride ``2^(levels - 1)``."""
        return split_surfaces(self.decode_features(latent)[0], self.config.resolution)

    def reconstruction_fields(self) -> tuple[str, ...]:
        """What `reconstruct` reads of a shard's samples."""
        return tuple(FIELDS)

    @torch.inference_mode()
    def reconstruct(self, batch: Mapping[str, Any]) -> list[Reconstruction]:
        """A batch of shards through the mean of the latent and back to meshes, which have no inside."""
        latent = self.encode(self.surfaces(batch))
        counts = latent.coords[:, 0].bincount(minlength=latent.batch_size).tolist()
        meshes = (self.surface_decoder.mesh_or_none(surface) for surface in self.decode(latent))
        return [Reconstruction(mesh, positions=count) for mesh, count in zip(meshes, counts, strict=True)]

    def flops(self, batch: Mapping[str, Any]) -> int:
        """Twice the multiply-adds of a forward pass on a batch's voxels, all neighbours counted as if they were
        there."""
        counts = [len(level.coords) for level in self.structure(voxels_of(batch))]
        parts = (self.shape_encoder, self.paint_encoder, self.shape_decoder, self.paint_decoder)
        return 2 * sum(part.multiply_adds(counts) for part in parts)

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return [module for module in self.modules() if isinstance(module, SparseBlock)]

    def tensor_parallel_plan(self) -> dict[str, str]:
        """Nothing to split: convolutions this small are replicated."""
        return {}


def check(config: SparseVAEConfig) -> None:
    """Refuse sizes that do not fit each other."""
    lists = [part for branch in (config.shape, config.paint) for part in (branch.widths, branch.depths)]
    lengths = [len(part) for part in lists]
    count = lengths[0]
    if count < 2 or any(length != count for length in lengths):
        raise MaquetteError(
            f"architecture 'sparse_vae': widths and depths of shape and paint have {lengths} levels; give each as "
            "many, two at least"
        )
    if config.resolution % (1 << (count - 1)):
        raise MaquetteError(
            f"architecture 'sparse_vae': resolution {config.resolution} cannot be halved {count - 1} times"
        )


def voxels_of(batch: Mapping[str, Any]) -> SparseTensor:
    """The voxels of a batch of shards, with no features."""
    mask = batch["dual_voxels_mask"]
    coords = torch.cat([mask.nonzero()[:, :1].int(), batch["dual_voxels"][mask].int()], dim=1)
    return SparseTensor(torch.empty(len(coords), 0, device=coords.device), coords, len(mask))
