"""Down to voxels of twice the edge and up again."""

from __future__ import annotations

from torch import nn

from maquette.errors import unknown_name
from maquette_kernels.sparse.functions import (
    channel_to_space,
    max_pool,
    mean_pool,
    space_to_channel,
    upsample_nearest,
)
from maquette_kernels.sparse.modules.convolution import require_same_voxels
from maquette_kernels.sparse.tensor import SparseTensor

_DOWN = {"channel": space_to_channel, "mean": mean_pool, "max": max_pool}
_UP = {"channel": channel_to_space, "nearest": upsample_nearest}


class SparseDownsample(nn.Module):
    """Voxels of half the resolution.

    Args:
        mode: ``"channel"``: the eight children side by side, C to 8 C, 0 where one is missing; ``"mean"`` or
            ``"max"`` of those that are there.

    Raises:
        MaquetteError: another mode.
    """

    def __init__(self, mode: str = "channel") -> None:
        super().__init__()
        if mode not in _DOWN:
            raise unknown_name("mode of SparseDownsample", mode, list(_DOWN))
        self.mode = mode

    def forward(self, x: SparseTensor) -> SparseTensor:
        """[N, C] to [M, 8 C] or [M, C]."""
        coarse, family = x.coarsened()
        return coarse.replace(_DOWN[self.mode](x.features, family.parent, family.octant, len(coarse.coords)))


class SparseUpsample(nn.Module):
    """Back onto the voxels of the tensor that was made coarser.

    Args:
        mode: ``"channel"``: each child takes its share, 8 C to C; ``"nearest"``: each takes all of them.

    Raises:
        MaquetteError: another mode.
    """

    def __init__(self, mode: str = "channel") -> None:
        super().__init__()
        if mode not in _UP:
            raise unknown_name("mode of SparseUpsample", mode, list(_UP))
        self.mode = mode

    def forward(self, x: SparseTensor, like: SparseTensor) -> SparseTensor:
        """[M, 8 C] or [M, C] to [N, C] on the voxels of ``like``.

        Raises:
            MaquetteError: ``x`` is not on the voxels that ``like`` has at half its resolution.
        """
        coarse, family = like.coarsened()
        require_same_voxels(x, coarse, "SparseUpsample")
        return like.replace(_UP[self.mode](x.features, family.parent, family.octant))
