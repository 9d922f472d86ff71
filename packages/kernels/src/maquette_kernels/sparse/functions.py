"""Sparse voxels as plain functions. Coordinates are int32 [N, 4]: batch, x, y, z."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.sparse.coarsen import COARSEN
from maquette_kernels.sparse.keys import as_three
from maquette_kernels.sparse.neighbour_map import NEIGHBOUR_MAP
from maquette_kernels.sparse.sparse_conv3d import SPARSE_CONV3D

Size = int | tuple[int, int, int]


def neighbour_map(coords: Tensor, kernel_size: Size = 3, *, dilation: int = 1) -> Tensor:
    """For every voxel and every tap of a kernel, which voxel lies there.

    Taps are numbered with x slowest and z fastest; along an axis of size k they lie at ``-((k-1)//2) .. k//2``
    times the dilation, so an even kernel reaches one further ahead than behind.

    Args:
        coords: int32 [N, 4] (batch, x, y, z), unique rows in any order (sorted ones are found faster);
            coordinates in -32768..32767 (negative ones are as good as others), batch indices in 0..32767. The
            values are not checked, which would stall a GPU: see ``SparseTensor.of(..., check=True)``.
        kernel_size: taps along each axis, or one number for all.
        dilation: distance between taps.

    Returns:
        int32 [N, V], ``V = kx * ky * kz``: index of the voxel, or -1 where there is none.

    Raises:
        MaquetteError: shapes, dtypes or sizes that do not fit.

    Source: submanifold sparse convolution (Graham, Engelcke and van der Maaten 2018, arXiv:1711.10275).
    """
    return NEIGHBOUR_MAP(coords, None, *as_three(kernel_size, "kernel_size"), 1, dilation)  # type: ignore[no-any-return]


def kernel_map(queries: Tensor, coords: Tensor, kernel_size: Size, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """The map from one set of voxels to another: which of ``coords`` lies at each tap around each query.

    Args:
        queries: int32 [M, 4], where outputs are wanted, in units of ``stride`` voxels.
        coords: int32 [N, 4], where inputs lie; ranges as in :func:`neighbour_map`.
        kernel_size: taps along each axis, or one number for all.
        stride: query q looks around ``stride * q``.
        dilation: distance between taps.

    Returns:
        int32 [M, V]: index into ``coords``, or -1.

    Raises:
        MaquetteError: shapes, dtypes or sizes that do not fit.
    """
    return NEIGHBOUR_MAP(coords, queries, *as_three(kernel_size, "kernel_size"), stride, dilation)  # type: ignore[no-any-return]


def sparse_conv3d(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    neighbours: Tensor,
    reverse: Tensor | None = None,
    *,
    order: Tensor | None = None,
    reverse_order: Tensor | None = None,
) -> Tensor:
    """``out[m] = bias + sum over v of features[neighbours[m, v]] @ weight[v]``; absent neighbours count as 0.

    As in torch, taps are not flipped (cross-correlation). Submanifold, strided, dilated and inverse convolutions
    differ in their map only; ``SparseTensor`` and the modules make and remember maps.

    Args:
        features: [N, Ci] in float32, bfloat16 or float16 (float64 too on a CPU).
        weight: [V, Ci, Co] in the features' dtype; under autocast both are cast.
        bias: [Co] or None.
        neighbours: int32 [M, V] with values in -1..N-1, as from :func:`neighbour_map` or :func:`kernel_map`.
        reverse: int32 [N, V], :func:`invert_map` of it, for the features' gradient; made when first needed if
            left out.
        order: int32 [M], :func:`mask_order` of the map; on a GPU less is multiplied in vain.
        reverse_order: the same for ``reverse``.

    Returns:
        [M, Co], dtype of features. Sums are in float32 (float64 for float64).

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: submanifold sparse convolution (Graham et al. 2018, arXiv:1711.10275); masked implicit GEMM as in
    FlexGEMM.
    """
    kind = features.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        features, weight = features.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return SPARSE_CONV3D(features, weight, bias, neighbours, reverse, order, reverse_order)  # type: ignore[no-any-return]


def coarsen(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels of half the resolution: unique ``coords >> 1``, so that negative coordinates round down too.

    Args:
        coords: int32 [N, 4] (batch, x, y, z), ranges as in :func:`neighbour_map`.

    Returns:
        Coarse voxels int32 [M, 4], sorted by batch, x, y, z; the index of each voxel's parent among them, int32
        [N]; and its octant ``4 * (x & 1) + 2 * (y & 1) + (z & 1)``, int32 [N].

    Raises:
        MaquetteError: wrong shape or dtype.
    """
    return COARSEN(coords)  # type: ignore[no-any-return]


def space_to_channel(features: Tensor, parent: Tensor, octant: Tensor, count: int) -> Tensor:
    """The features of each coarse voxel's eight children side by side, 0 where a child is missing.

    Args:
        features: [N, C] of the fine voxels.
        parent: int32 [N] from :func:`coarsen`.
        octant: int32 [N] from :func:`coarsen`.
        count: number of coarse voxels M.

    Returns:
        [M, 8 * C]; child o in channels ``o * C .. (o + 1) * C - 1``. Differentiable.
    """
    channels = features.shape[1]
    place = parent.long() * 8 + octant
    return features.new_zeros(count * 8, channels).index_copy(0, place, features).view(count, 8 * channels)


def channel_to_space(features: Tensor, parent: Tensor, octant: Tensor) -> Tensor:
    """Each fine voxel's share of its parent's channels: the adjoint of :func:`space_to_channel`.

    Args:
        features: [M, 8 * C] of the coarse voxels.
        parent: int32 [N] from :func:`coarsen`.
        octant: int32 [N] from :func:`coarsen`.

    Returns:
        [N, C]. Differentiable; each share is used once at most, so the gradient is deterministic.
    """
    return features.reshape(features.shape[0] * 8, features.shape[1] // 8).index_select(0, parent.long() * 8 + octant)


def mean_pool(features: Tensor, parent: Tensor, octant: Tensor, count: int) -> Tensor:
    """Mean of the children that are there: [N, C] to [M, C]. Differentiable and deterministic."""
    children = space_to_channel(features, parent, octant, count).view(count, 8, features.shape[1])
    return children.sum(1) / _present(features, parent, octant, count).sum(1)


def max_pool(features: Tensor, parent: Tensor, octant: Tensor, count: int) -> Tensor:
    """Largest value of the children that are there, by channel: [N, C] to [M, C]. Differentiable."""
    children = space_to_channel(features, parent, octant, count).view(count, 8, features.shape[1])
    present = _present(features, parent, octant, count)
    return children.masked_fill(present == 0, -torch.inf).amax(1)


def upsample_nearest(features: Tensor, parent: Tensor, octant: Tensor) -> Tensor:
    """Each fine voxel takes its parent's features: [M, C] to [N, C]. Differentiable and deterministic."""
    return channel_to_space(features.repeat(1, 8), parent, octant)


def _present(features: Tensor, parent: Tensor, octant: Tensor, count: int) -> Tensor:
    ones = features.new_ones(features.shape[0], 1)
    return space_to_channel(ones, parent, octant, count).view(count, 8, 1)
