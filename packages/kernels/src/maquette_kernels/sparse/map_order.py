"""Maps between voxels, turned round and put in order."""

from __future__ import annotations

import torch
from torch import Tensor


def invert_map(neighbours: Tensor, count: int) -> Tensor:
    """The map back: which output reads each of ``count`` inputs through each tap.

    Args:
        neighbours: int32 [M, V] as from :func:`kernel_map`; through one tap no two outputs read one input,
            which holds for every map between unique voxels.
        count: number of inputs N.

    Returns:
        int32 [N, V]: index of the output, or -1. Gradients of inputs are gathered through it.
    """
    outputs, taps = neighbours.shape
    place = torch.where(neighbours < 0, count, neighbours).long()
    source = torch.arange(outputs, dtype=torch.int32, device=neighbours.device)
    reverse = neighbours.new_full((count + 1, taps), -1)
    return reverse.scatter_(0, place, source.unsqueeze(1).expand(-1, taps))[:count]


def mask_order(neighbours: Tensor) -> Tensor:
    """Outputs in an order in which those that lack the same taps are together, for :func:`sparse_conv3d` on a GPU.

    The order is that of a Gray code over the set of taps that have a neighbour (the first 62 of them), so that
    between consecutive outputs few taps come or go; equal sets keep their order.

    Args:
        neighbours: int32 [M, V].

    Returns:
        int32 [M], a permutation.

    Source: masks sorted along a Gray code as in FlexGEMM (JeffreyXiang/FlexGEMM on GitHub).
    """
    mask = torch.zeros(neighbours.shape[0], dtype=torch.int64, device=neighbours.device)
    for tap in range(min(neighbours.shape[1], 62)):
        mask |= (neighbours[:, tap] >= 0).long() << tap
    for shift in (1, 2, 4, 8, 16, 32):
        mask ^= mask >> shift
    return mask.argsort(stable=True).int()
