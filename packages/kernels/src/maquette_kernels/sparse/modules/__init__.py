"""Modules over :class:`maquette_kernels.sparse.tensor.SparseTensor`."""

from __future__ import annotations

from maquette_kernels.sparse.modules.convolution import SparseConv3d, SparseInverseConv3d, SubmanifoldConv3d
from maquette_kernels.sparse.modules.on_features import OnFeatures
from maquette_kernels.sparse.modules.resampling import SparseDownsample, SparseUpsample
from maquette_kernels.sparse.modules.weights import load_spconv_weight, to_spconv_weight

__all__ = [
    "OnFeatures",
    "SparseConv3d",
    "SparseDownsample",
    "SparseInverseConv3d",
    "SparseUpsample",
    "SubmanifoldConv3d",
    "load_spconv_weight",
    "to_spconv_weight",
]
