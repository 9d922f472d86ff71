"""Encoder and decoder of features at sparse voxels; an autoencoder has one pair for shape and one for paint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from maquette_kernels.sparse.modules import SubmanifoldConv3d
from maquette_kernels.sparse.tensor import SparseTensor
from maquette_models.sparse_voxels.residual_blocks import OCTANTS, ResidualDown, ResidualUp, SparseBlock, children


@dataclass
class BranchConfig:
    """`widths` and `depths` (blocks) are those of each level, the finest first; `channels` those of the latent."""

    widths: list[int] = field(default_factory=lambda: [16, 32, 64])
    depths: list[int] = field(default_factory=lambda: [1, 1, 2])
    channels: int = 8
    mlp_ratio: int = 2


@dataclass(frozen=True)
class Subdivision:
    """Which children the voxels of a level have.

    Attributes:
        fine: the children, with no features.
        parent: int32 [N], the place of each one's parent among the voxels above.
        octant: int32 [N], which of its children it is.
    """

    fine: SparseTensor
    parent: Tensor
    octant: Tensor

    @classmethod
    def of(cls, fine: SparseTensor) -> Subdivision:
        """That of voxels that are known."""
        family = fine.coarsened()[1]
        return cls(fine, family.parent, family.octant)

    @classmethod
    def predicted(cls, coarse: SparseTensor, logits: Tensor) -> Subdivision:
        """That of logits [M,8] at sorted voxels: a child is there where its logit is positive."""
        coords, parent, octant = children(coarse.coords, logits > 0)
        fine = SparseTensor(logits.new_empty(len(coords), 0), coords, coarse.batch_size, coarse.stride // 2)
        return cls(fine, parent, octant)

    def present(self) -> Tensor:
        """bool [M,8], which children the voxels above have, for those that are known."""
        parents = len(self.fine.coarsened()[0].coords)
        there = torch.zeros(parents * OCTANTS, dtype=torch.bool, device=self.parent.device)
        there[self.parent.long() * OCTANTS + self.octant] = True
        return there.view(-1, OCTANTS)


class SparseEncoder(nn.Module):
    """Features [N,F] of the finest voxels -> moments [L,2C] of the coarsest."""

    def __init__(self, features: int, config: BranchConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(features, config.widths[0])
        self.levels = levels(config)
        self.downs = nn.ModuleList(ResidualDown(fine, coarse) for fine, coarse in pairwise(config.widths))
        self.moments = nn.Linear(config.widths[-1], 2 * config.channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        x = self.levels[0](x.replace(self.embed(x.features)))
        for down, level in zip(self.downs, self.levels[1:], strict=True):
            x = level(down(x))
        return x.replace(self.moments(x.features))

    def multiply_adds(self, counts: Sequence[int]) -> int:
        """Of a forward pass on so many voxels of each level, the finest first, all neighbours counted as there."""
        total = counts[0] * matrices(self.embed) + counts[-1] * matrices(self.moments)
        return total + by_level(self.levels, counts) + by_level(self.downs, counts[1:])


class SparseDecoder(nn.Module):
    """A latent [L,C] on the coarsest voxels -> features [N,F] on the finest.

    With `splits` it says itself which children voxels have; without, it follows what another decoder said.
    """

    def __init__(self, channels: int, features: int, config: BranchConfig, splits: bool) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.embed = SubmanifoldConv3d(channels, widths[0])
        self.levels = levels(config, reverse=True)
        heads = (nn.Sequential(nn.LayerNorm(w), nn.Linear(w, OCTANTS)) for w in widths[:-1])
        self.splits = nn.ModuleList(heads if splits else ())
        self.ups = nn.ModuleList(ResidualUp(coarse, fine) for coarse, fine in pairwise(widths))
        self.norm = nn.LayerNorm(widths[-1]) if splits else nn.Identity()
        self.head = nn.Linear(widths[-1], features)

    def forward(
        self, x: SparseTensor, route: Sequence[Subdivision] | None = None
    ) -> tuple[SparseTensor, list[Subdivision], list[Tensor]]:
        """The features, the subdivisions on the way to them, and the logits [M,8] of each.

        Args:
            x: the latent, on sorted voxels.
            route: the subdivisions to follow, the coarsest first, in the stead of the predicted ones.
        """
        x, logits, taken = self.levels[0](self.embed(x)), [], []
        for number, (up, level) in enumerate(zip(self.ups, self.levels[1:], strict=True)):
            if self.splits:
                logits.append(self.splits[number](x.features))
            taken.append(Subdivision.predicted(x, logits[-1]) if route is None else route[number])
            x = level(taken[-1].fine.replace(up(x.features, taken[-1].parent, taken[-1].octant)))
        return x.replace(self.head(self.norm(x.features))), taken, logits

    def multiply_adds(self, counts: Sequence[int]) -> int:
        """As the encoder's; the finest level comes first here too."""
        rising = list(counts)[::-1]
        total = rising[0] * matrices(self.embed) + rising[-1] * matrices(self.head)
        return total + by_level(self.levels, rising) + by_level(self.ups, rising) + by_level(self.splits, rising)


def levels(config: BranchConfig, reverse: bool = False) -> nn.ModuleList:
    """The blocks of each level, the finest first unless turned round."""
    sizes = list(zip(config.widths, config.depths, strict=True))
    sizes = sizes[::-1] if reverse else sizes
    return nn.ModuleList(
        nn.Sequential(*(SparseBlock(width, config.mlp_ratio) for _ in range(depth))) for width, depth in sizes
    )


def matrices(module: nn.Module) -> int:
    """Entries of the matrices of a module: its multiply-adds for one voxel."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)


def by_level(modules: nn.ModuleList, counts: Sequence[int]) -> int:
    """Multiply-adds of modules that each see as many voxels as the counts say."""
    return sum(count * matrices(module) for module, count in zip(modules, counts, strict=False))
