"""Sampling as plain functions."""

from __future__ import annotations

from torch import Tensor

from maquette_kernels.sampling.sample_sparse_trilinear import SAMPLE_SPARSE_TRILINEAR
from maquette_kernels.sampling.sample_triplane import SAMPLE_TRIPLANE


def sample_sparse_trilinear(
    features: Tensor, coords: Tensor, points: Tensor, batch: Tensor | None = None, *, renormalise: bool = False
) -> Tensor:
    """Features of sparse voxels at points, interpolated between the eight voxels about each point.

    ``out[p] = sum_k w[p, k] * features[voxel k]`` with ``w`` the products of ``1 - |point - voxel|`` over the
    three axes. A voxel's features lie at its coordinates: where they stand for a cube ``[i, i + 1)``, subtract
    0.5 from the points. Corners without a voxel add nothing; a point with none of its corners, further out
    than 32767, not finite, or of a batch element without voxels gets zeros.

    Args:
        features: [N, C] in float32, bfloat16, float16 or float64.
        coords: int32 or int64 [N, 4] (batch, x, y, z), in any order, each voxel once (not checked); negative
            ones are fine. Voxels beyond 16 bits a side (-32768 .. 32767) or 15 bits of batch are never met.
        points: float32 or float64 [P, 3] (x, y, z) in voxels.
        batch: int32 or int64 [P], batch element of each point; None means 0.
        renormalise: divide by the sum of the weights of the voxels that are there, so that constant features
            stay constant up to the border. The result jumps where that sum goes to 0.

    Returns:
        [P, C] in the dtype of features; sums are in float32, or float64 where an operand has it. Gradients
        flow to features and points (one-sided on the faces between cells) and are deterministic.

    Raises:
        MaquetteError: shapes or dtypes that do not fit.
    """
    return SAMPLE_SPARSE_TRILINEAR(features, coords, points, batch, renormalise)


def sample_triplane(planes: Tensor, points: Tensor, *, concat: bool = False, clamp: bool = False) -> Tensor:
    """Bilinear samples of three planes of features at points of the cube ``[-1, 1]^3``.

    The planes are xy, xz and yz: the first axis runs along the width (the last dimension), the second along
    the height. Texels are areas: the centre of texel i is at ``(2i + 1) / R - 1``, as with
    ``grid_sample(align_corners=False)``.

    Args:
        planes: [B, 3, C, R, R] in float32, bfloat16, float16 or float64. Channels last in memory saves a copy.
        points: float32 or float64 [B, P, 3] (x, y, z).
        concat: give the three samples one after the other instead of their sum.
        clamp: texels at the border go on outside; otherwise there is zero. A coordinate that is not a number
            gives zero on both planes that it lies in, always.

    Returns:
        [B, P, C], or [B, P, 3C] where ``concat``, in the dtype of planes; sums are in float32, or float64
        where an operand has it. Gradients flow to planes and points (to points one-sided between texels, none
        where clamped) and are deterministic.

    Raises:
        MaquetteError: shapes or dtypes that do not fit.

    Source: the planes of EG3D (Chan et al. 2022), with three axes pairs that differ.
    """
    return SAMPLE_TRIPLANE(planes, points, concat, clamp)
