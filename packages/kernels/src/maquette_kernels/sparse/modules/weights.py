"""Weights of other libraries.

spconv 2 and FlexGEMM store [Co, kx, ky, kz, Ci] with axes in the order of their coordinates' columns; taps are not
flipped there either. Even kernels of spconv's submanifold convolutions reach one further behind, ours one further
ahead.
"""

from __future__ import annotations

from torch import Tensor

from maquette.errors import MaquetteError


def load_spconv_weight(weight: Tensor) -> Tensor:
    """[Co, kx, ky, kz, Ci] of spconv or FlexGEMM as [V, Ci, Co].

    Raises:
        MaquetteError: it has another number of axes.
    """
    if weight.dim() != 5:
        raise MaquetteError(f"weight must be [Co, kx, ky, kz, Ci], got {list(weight.shape)}; permute it first")
    return weight.permute(1, 2, 3, 4, 0).flatten(0, 2).contiguous()


def to_spconv_weight(weight: Tensor, kernel_size: tuple[int, int, int]) -> Tensor:
    """[V, Ci, Co] as [Co, kx, ky, kz, Ci]."""
    return weight.unflatten(0, kernel_size).permute(4, 0, 1, 2, 3).contiguous()
