"""Which views to paint from: greedily those that show most of what no chosen one shows yet."""

from __future__ import annotations

import torch
from torch import Tensor

GOOD = 0.4
"""Cosine at which a view of a point is good enough."""


def choose_views(cosines: Tensor, count: int, least: float = 0.01) -> list[int]:
    """Numbers of at most `count` views, the most telling first; at least one.

    Args:
        cosines: [V,P], how straight each candidate sees each point, as `view_projection.cosines` gives them.
        count: how many to choose.
        least: share of the points that a further view has to add more than.
    """
    shown = (cosines.clamp(max=GOOD) / GOOD).double()
    best = torch.zeros(shown.shape[1], dtype=torch.float64)
    chosen: list[int] = []
    while len(chosen) < count:
        gain = (torch.maximum(shown, best) - best).mean(dim=1)
        view = int(gain.argmax())
        if chosen and float(gain[view]) <= least:
            break
        chosen.append(view)
        best = torch.maximum(best, shown[view])
    return chosen
