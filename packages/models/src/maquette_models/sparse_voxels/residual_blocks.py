"""Residual blocks and resampling on sparse voxels.

ConvNeXt-style blocks and residual space-to-channel resampling as in the SC-VAE of TRELLIS.2 (Xiang et al. 2025), after
Liu et al., "A ConvNet for the 2020s", 2022, and Chen et al., "Deep Compression Autoencoder", 2025.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette_kernels.ops import channel_to_space, space_to_channel
from maquette_kernels.sparse.modules import SubmanifoldConv3d
from maquette_kernels.sparse.tensor import SparseTensor

OCTANTS = 8


class SparseBlock(nn.Module):
    """x + MLP(norm(conv(x))) over [N,W] at sparse voxels; it starts as the identity."""

    def __init__(self, width: int, mlp_ratio: int) -> None:
        super().__init__()
        self.conv = SubmanifoldConv3d(width, width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, mlp_ratio * width)
        self.down = nn.Linear(mlp_ratio * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: SparseTensor) -> SparseTensor:
        h = self.norm(self.conv(x).features)
        return x.replace(x.features + self.down(F.silu(self.up(h))))


class ResidualDown(nn.Module):
    """A learnt mixture of eight children's channels beside plain means of those that are there.

    With `out_width` = k times the width each of k groups of children, neighbours along the axes, has a mean of its own.

    Raises:
        MaquetteError: k is not 1, 2, 4 or 8.
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.groups = groups_of(width, out_width)
        self.mix = nn.Linear(OCTANTS * width, out_width)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """[N,W] to [M,out_width] on voxels of twice the edge."""
        coarse, family = x.coarsened()
        where = (family.parent, family.octant, len(coarse.coords))
        folded = space_to_channel(x.features, *where)
        there = space_to_channel(x.features.new_ones(len(x.features), 1), *where)
        sums = reduce(folded, "m (k o w) -> m k w", "sum", k=self.groups, o=OCTANTS // self.groups)
        counts = reduce(there, "m (k o) -> m k 1", "sum", k=self.groups)
        means = rearrange(sums / counts.clamp(min=1), "m k w -> m (k w)")
        return coarse.replace(means + self.mix(folded))


class ResidualUp(nn.Module):
    """A learnt share of a parent's channels beside a plain copy of its group's, the way back of `ResidualDown`.

    Raises:
        MaquetteError: as `ResidualDown`.
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.groups = groups_of(out_width, width)
        self.share = nn.Linear(width, OCTANTS * out_width)

    def forward(self, features: Tensor, parent: Tensor, octant: Tensor) -> Tensor:
        """[M,W] of parents to [N,out_width] of children, each the `octant`-th of its `parent`."""
        plain = repeat(features, "m (k w) -> m (k o w)", k=self.groups, o=OCTANTS // self.groups)
        return channel_to_space(plain + self.share(features), parent, octant)


def groups_of(fine: int, coarse: int) -> int:
    """How many groups of children a coarse level's channels stand for."""
    if coarse % fine or OCTANTS % (coarse // fine):
        raise MaquetteError(f"sparse voxels: width {coarse} above width {fine}; make it 1, 2, 4 or 8 times as large")
    return coarse // fine


def children(coords: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The voxels of half the edge inside coarse ones.

    Args:
        coords: int32 [M,4] (batch, x, y, z), sorted.
        present: bool [M,8], which children there are; child ``4 (x & 1) + 2 (y & 1) + (z & 1)``.

    Returns:
        Their coordinates int32 [N,4], sorted, parents int32 [N] and octants int32 [N], as `coarsen` gives them.
    """
    parent, octant = present.nonzero(as_tuple=True)
    corner = torch.stack([octant >> 2, (octant >> 1) & 1, octant & 1], dim=1)
    fine = torch.cat([coords[parent, :1], coords[parent, 1:] * 2 + corner.int()], dim=1)
    order = torch.arange(len(fine), device=fine.device)
    for axis in (3, 2, 1, 0):  # stable sorts by the last key first
        order = order[fine[order, axis].argsort(stable=True)]
    return fine[order], parent[order].int(), octant[order].int()
