"""Autoencoder of voxel surfaces: a dual grid with its paint <-> a few channels in each voxel of a coarse grid.

After the SC-VAE of TRELLIS.2 (Xiang et al. 2025): encoder and decoder of sparse blocks with residual resampling; the
decoder predicts which of a voxel's eight children there are, so that a latent needs no fine structure beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_kernels.sparse.modules import SubmanifoldConv3d
from maquette_kernels.sparse.tensor import SparseTensor
from maquette_models.evaluation.protocol import Reconstruction
from maquette_models.sparse_voxels.dual_grid_decoder import DualGrid, DualGridConfig
from maquette_models.sparse_voxels.residual_blocks import (
    OCTANTS,
    ResidualDown,
    ResidualUp,
    SparseBlock,
    children,
)
from maquette_models.sparse_voxels.surface_features import (
    CHANNELS,
    FIELDS,
    batch_surfaces,
    sparse_surfaces,
    split_surfaces,
)
from maquette_models.sparse_voxels.voxel_surface import VoxelSurface


@dataclass
class SparseVAEConfig:
    """`widths` and `depths` (blocks) are those of each level, the finest first; a level has voxels of twice the edge of
    the one before, so the latent grid has ``resolution / 2^(levels - 1)`` cells a side."""

    resolution: int = 64
    widths: list[int] = field(default_factory=lambda: [16, 32, 64])
    depths: list[int] = field(default_factory=lambda: [1, 1, 2])
    latent_channels: int = 8
    mlp_ratio: int = 2


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


class SparseEncoder(nn.Module):
    """Features [N,14] of the finest voxels -> moments [L,2C] of the coarsest."""

    def __init__(self, config: SparseVAEConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(CHANNELS, config.widths[0])
        self.levels = nn.ModuleList(blocks(w, d, config) for w, d in zip(config.widths, config.depths, strict=True))
        self.downs = nn.ModuleList(ResidualDown(fine, coarse) for fine, coarse in pairwise(config.widths))
        self.norm = nn.LayerNorm(config.widths[-1])
        self.moments = nn.Linear(config.widths[-1], 2 * config.latent_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        x = self.levels[0](x.replace(self.embed(x.features)))
        for down, level in zip(self.downs, self.levels[1:], strict=True):
            x = level(down(x))
        return x.replace(self.moments(self.norm(x.features)))


class SparseDecoder(nn.Module):
    """A latent [L,C] on the coarsest voxels -> features [N,14] on the finest, by way of predicted children."""

    def __init__(self, config: SparseVAEConfig) -> None:
        super().__init__()
        widths, depths = config.widths[::-1], config.depths[::-1]
        self.embed = SubmanifoldConv3d(config.latent_channels, widths[0])
        self.levels = nn.ModuleList(blocks(w, d, config) for w, d in zip(widths, depths, strict=True))
        self.splits = nn.ModuleList(nn.Sequential(nn.LayerNorm(w), nn.Linear(w, OCTANTS)) for w in widths[:-1])
        self.ups = nn.ModuleList(ResidualUp(coarse, fine) for coarse, fine in pairwise(widths))
        self.norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], CHANNELS)

    def forward(self, x: SparseTensor, truth: list[SparseTensor] | None = None) -> tuple[SparseTensor, list[Tensor]]:
        """Output features, and the logits [M,8] of each subdivision.

        Args:
            x: the latent.
            truth: the true voxels of each finer level, the coarsest first, to go on with in the stead of the predicted
                ones.
        """
        x, logits = self.levels[0](self.embed(x)), []
        for number, (split, up, level) in enumerate(zip(self.splits, self.ups, self.levels[1:], strict=True)):
            logits.append(split(x.features))
            if truth is None:
                coords, parent, octant = children(x.coords, logits[-1] > 0)
                fine = SparseTensor(x.features.new_empty(len(coords), 0), coords, x.batch_size, x.stride // 2)
            else:
                fine = truth[number]
                parent, octant = family(fine)
            x = level(fine.replace(up(x.features, parent, octant)))
        return x.replace(self.head(self.norm(x.features))), logits


class SparseVAE(nn.Module):
    """Open surfaces stay open and hidden ones stay: nothing here asks for an inside.

    Raises:
        MaquetteError: sizes that do not fit each other.
    """

    def __init__(self, config: SparseVAEConfig) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.encoder = SparseEncoder(config)
        self.decoder = SparseDecoder(config)
        self.surface_decoder = DualGrid(DualGridConfig())

    @property
    def latent_resolution(self) -> int:
        """Cells a side of the latent grid."""
        return self.config.resolution >> (len(self.config.widths) - 1)

    def forward(self, x: SparseTensor, noise: Tensor | None = None) -> SparseVAEOutput:
        """Reconstruct features [N,14] through a latent: its mean, or a sample of it where there is standard normal
        noise [B,L,L,L,C] of `noise_shape`."""
        mean, logvar = self.moments(x)
        levels = structure(x, len(self.config.widths))
        latent = mean.features
        if noise is not None:
            own = noise[tuple(mean.coords.long().unbind(1))]
            latent = latent + own * torch.exp(0.5 * logvar)
        decoded, logits = self.decoder(mean.replace(latent), levels[-2::-1])
        present = tuple(children_mask(fine) for fine in levels[-2::-1])
        return SparseVAEOutput(decoded.features, tuple(logits), present, mean.features, logvar)

    def noise_shape(self, rows: int) -> tuple[int, ...]:
        """Noise has a place for every cell of the latent grid, so that a cell's does not depend on which others there
        are."""
        return (rows, *[self.latent_resolution] * 3, self.config.latent_channels)

    def moments(self, x: SparseTensor) -> tuple[SparseTensor, Tensor]:
        """Mean of the latent [L,C] on the coarsest voxels, and the logarithm of its variance; float32."""
        moments = self.encoder(x)
        mean, logvar = moments.features.float().chunk(2, dim=1)
        return moments.replace(mean), logvar.clamp(-12, 4)

    def surfaces(self, batch: Mapping[str, Any]) -> list[VoxelSurface]:
        """The surfaces of a batch of shards."""
        return batch_surfaces(batch, self.config.resolution)

    def encode(self, surfaces: list[VoxelSurface]) -> SparseTensor:
        """The mean latent [L,C] of some surfaces, the batch elements."""
        return self.moments(sparse_surfaces(surfaces))[0]

    def decode(self, latent: SparseTensor) -> list[VoxelSurface]:
        """The surface of each batch element of a latent; voxels must be sorted and of stride ``2^(levels - 1)``."""
        return split_surfaces(self.decoder(latent)[0], self.config.resolution)

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
        voxels = SparseTensor(*_voxels_of(batch))
        counts = [len(level.coords) for level in structure(voxels, len(self.config.widths))]
        sides = [
            (self.encoder.levels, self.encoder.downs, counts),
            (self.decoder.levels, self.decoder.ups, counts[::-1]),
        ]
        total = counts[0] * (weights(self.encoder.embed) + weights(self.decoder.head))
        total += counts[-1] * (weights(self.encoder.moments) + weights(self.decoder.embed))
        for levels, steps, count in sides:
            total += sum(n * weights(level) for n, level in zip(count, levels, strict=True))
            coarser = count[1:] if levels is self.encoder.levels else count[:-1]
            total += sum(n * weights(step) for n, step in zip(coarser, steps, strict=True))
        total += sum(n * weights(split) for n, split in zip(counts[:0:-1], self.decoder.splits, strict=True))
        return 2 * total

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return [module for module in self.modules() if isinstance(module, SparseBlock)]

    def tensor_parallel_plan(self) -> dict[str, str]:
        """Nothing to split: convolutions this small are replicated."""
        return {}


def blocks(width: int, depth: int, config: SparseVAEConfig) -> nn.Sequential:
    """`depth` blocks in a row."""
    return nn.Sequential(*(SparseBlock(width, config.mlp_ratio) for _ in range(depth)))


def structure(x: SparseTensor, levels: int) -> list[SparseTensor]:
    """The voxels of every level, the finest, x itself, first; remembered by x."""
    found = [x]
    while len(found) < levels:
        found.append(found[-1].coarsened()[0])
    return found


def family(fine: SparseTensor) -> tuple[Tensor, Tensor]:
    """Parent int32 [N] and octant int32 [N] of each voxel."""
    known = fine.coarsened()[1]
    return known.parent, known.octant


def children_mask(fine: SparseTensor) -> Tensor:
    """bool [M,8], which children the parents of some voxels have."""
    coarse, known = fine.coarsened()
    present = torch.zeros(len(coarse.coords) * OCTANTS, dtype=torch.bool, device=fine.coords.device)
    present[known.parent.long() * OCTANTS + known.octant] = True
    return present.view(-1, OCTANTS)


def weights(module: nn.Module) -> int:
    """Entries of the matrices of a module: its multiply-adds for one voxel."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)


def check(config: SparseVAEConfig) -> None:
    """Refuse sizes that do not fit each other."""
    if len(config.widths) != len(config.depths) or len(config.widths) < 2:
        raise MaquetteError(
            f"architecture 'sparse_vae': widths {config.widths} and depths {config.depths} must be of as many levels, "
            "two at least"
        )
    if config.resolution % (1 << (len(config.widths) - 1)):
        raise MaquetteError(
            f"architecture 'sparse_vae': resolution {config.resolution} cannot be halved {len(config.widths) - 1} times"
        )


def _voxels_of(batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, int]:
    mask = batch["dual_voxels_mask"]
    element = mask.nonzero()[:, :1].int()
    coords = torch.cat([element, batch["dual_voxels"][mask].int()], dim=1)
    return coords.new_empty(len(coords), 0, dtype=torch.float32), coords, len(mask)
