"""Linear layers whose result for one row does not depend on the other rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rowwise(module: nn.Module, x: Tensor, training: bool) -> Tensor:
    """Apply a module to [B, W], one row at a time outside training.

    A matrix product picks its order of summation by its number of rows, so a request served alone and the
    same request in a batch would differ in the last bits. Only layers that see one row a sample (time, pooled
    condition) are affected; layers over tokens were found invariant.
    """
    if training or len(x) == 1:
        return module(x)
    return torch.cat([module(row) for row in x.split(1)])
