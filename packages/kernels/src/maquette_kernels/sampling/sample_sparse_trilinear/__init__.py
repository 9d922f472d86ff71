"""Trilinear interpolation of the features of sparse voxels at points."""

from __future__ import annotations

from maquette_kernels.sampling.sample_sparse_trilinear.operation import SAMPLE_SPARSE_TRILINEAR, build

__all__ = ["SAMPLE_SPARSE_TRILINEAR", "build"]
