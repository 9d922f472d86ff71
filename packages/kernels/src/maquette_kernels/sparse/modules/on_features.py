"""Any module of features, such as a norm or an activation, over a sparse tensor."""

from __future__ import annotations

from torch import nn

from maquette_kernels.sparse.tensor import SparseTensor


class OnFeatures(nn.Module):
    """Applies a module to the features [N, C]: ``OnFeatures(nn.LayerNorm(64))``, ``OnFeatures(nn.SiLU())``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: SparseTensor) -> SparseTensor:
        """The same voxels with the module's features."""
        return x.replace(self.module(x.features))
