"""Sparse convolution over a kernel map: forward, and gradients of features, weight and bias."""

from __future__ import annotations

from maquette_kernels.sparse.sparse_conv3d.operation import SPARSE_CONV3D, build

__all__ = ["SPARSE_CONV3D", "build"]
