"""The obvious code for ``sparse_conv3d``: one matrix product a tap, right in fp64."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
from torch import Tensor


def reference(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    neighbours: Tensor,
    reverse: Tensor | None = None,
    order: Tensor | None = None,
    reverse_order: Tensor | None = None,
) -> Tensor:
    """``out[m] = bias + sum over v of features[neighbours[m, v]] @ weight[v]``, absent neighbours being 0."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    wide = torch.cat([features.to(dtype), features.new_zeros(1, features.shape[1], dtype=dtype)])
    out = wide.new_zeros(neighbours.shape[0], weight.shape[2])
    for tap in range(weight.shape[0]):
        index = neighbours[:, tap].long()
        out = out + wide[torch.where(index < 0, features.shape[0], index)] @ weight[tap].to(dtype)
    if bias is not None:
        out = out + bias.to(dtype)
    return out.to(features.dtype)
