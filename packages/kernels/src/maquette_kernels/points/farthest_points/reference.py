"""The obvious way: after each choice, the distance of every point to the nearest chosen one."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.points.ragged import spans


def reference(points: Tensor, count: int, offsets: Tensor | None = None, start: int = 0) -> Tensor:
    """Numbers int64 [B, count] of the chosen points among all, -1 where a cloud has no more."""
    clouds = spans(offsets, points.shape[0])
    chosen = torch.full((len(clouds), count), -1, device=points.device)
    for row, (first, stop) in enumerate(clouds):
        cloud = points[first:stop]
        away = torch.full(cloud.shape[:1], torch.inf, dtype=points.dtype, device=points.device)
        for step in range(min(count, stop - first)):
            number = min(start, stop - first - 1) if step == 0 else int((away == away.max()).nonzero()[0])
            x, y, z = (cloud - cloud[number]).unbind(-1)
            away = torch.minimum(away, x * x + y * y + z * z)
            away[number] = -1  # chosen points are never chosen again, not even among equals
            away = torch.where(away < 0, -1, away)
            chosen[row, step] = first + number
    return chosen
