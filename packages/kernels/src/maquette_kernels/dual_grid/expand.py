"""Expanding one item into several, by counts and their prefix sums."""

from __future__ import annotations

import torch
from torch import Tensor


def expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For items that each stand for several: the item of each one, and its number among them; int64 [sum of counts]."""
    ends = counts.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=total)
    return owner, torch.arange(total, device=counts.device) - (ends - counts)[owner]
