"""Convolutions on sparse voxels."""

from __future__ import annotations

import math

import torch
from torch import nn

from maquette.errors import MaquetteError
from maquette_kernels.sparse.functions import Size
from maquette_kernels.sparse.keys import as_three
from maquette_kernels.sparse.tensor import SparseTensor


class _Convolution(nn.Module):
    """Weight [V, Ci, Co] and bias [Co], drawn as torch's own convolutions draw theirs.

    Args:
        in_channels: Ci.
        out_channels: Co.
        kernel_size: taps along each axis, or one number for all.
        bias: whether to add one.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, *, bias: bool) -> None:
        super().__init__()
        self.kernel_size = as_three(kernel_size, "kernel_size")
        taps = math.prod(self.kernel_size)
        self.weight = nn.Parameter(torch.empty(taps, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within ``1 / sqrt(taps * in_channels)``."""
        bound = 1 / math.sqrt(self.weight.shape[0] * self.weight.shape[1])
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        _, inputs, outputs = self.weight.shape
        return f"{inputs}, {outputs}, kernel_size={self.kernel_size}, bias={self.bias is not None}"


class SubmanifoldConv3d(_Convolution):
    """Convolution whose outputs are where its inputs are."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size = 3, *, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.dilation = dilation

    def forward(self, x: SparseTensor) -> SparseTensor:
        """[N, Ci] to [N, Co] on the same voxels."""
        found = x.kernel_map(self.kernel_size, dilation=self.dilation)
        return x.replace(found.convolve(x.features, self.weight, self.bias))


class SparseConv3d(_Convolution):
    """Strided convolution. Outputs are where one of their ``stride^3`` voxels is, as in MinkowskiEngine and
    torchsparse; spconv also puts outputs where a wider kernel reaches.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size = 2, *, stride: int = 2, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.stride = stride

    def forward(self, x: SparseTensor) -> SparseTensor:
        """[N, Ci] to [M, Co] on voxels ``stride`` times as large."""
        coarse, found = x.strided_map(self.kernel_size, self.stride)
        return coarse.replace(found.convolve(x.features, self.weight, self.bias))


class SparseInverseConv3d(_Convolution):
    """Transposed convolution back onto voxels that a :class:`SparseConv3d` of the same kernel and stride left."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size = 2, *, stride: int = 2, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.stride = stride

    def forward(self, x: SparseTensor, like: SparseTensor) -> SparseTensor:
        """[M, Ci] on coarse voxels to [N, Co] on the voxels of ``like``.

        Raises:
            MaquetteError: ``x`` is not on the voxels that ``like`` has at this stride.
        """
        coarse, found = like.strided_map(self.kernel_size, self.stride)
        require_same_voxels(x, coarse, "SparseInverseConv3d")
        return like.replace(found.inverse.convolve(x.features, self.weight, self.bias))


def require_same_voxels(x: SparseTensor, coarse: SparseTensor, who: str) -> None:
    """Compare numbers of voxels and strides: the coordinates themselves would wait for a GPU.

    Raises:
        MaquetteError: they differ.
    """
    if len(x.coords) != len(coarse.coords) or x.stride != coarse.stride:
        raise MaquetteError(
            f"{who}: x has {len(x.coords)} voxels of stride {x.stride}, 'like' has {len(coarse.coords)} of stride "
            f"{coarse.stride} at this level; give the tensor that x was made from"
        )
