"""The obvious way: all distances, sorted."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.points.ragged import spans

_ROWS = 1024


def reference(
    queries: Tensor, points: Tensor, k: int, query_offsets: Tensor | None = None, point_offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Squared distances [P, k], never falling along a row, and int64 numbers [P, k] of the points they lead to."""
    distances, numbers = [], []
    clouds = zip(spans(query_offsets, queries.shape[0]), spans(point_offsets, points.shape[0]), strict=True)
    for (first, last), (start, stop) in clouds:
        for rows in queries[first:last].split(_ROWS):
            squared, number = _nearest(rows, points[start:stop], k)
            distances.append(squared)
            numbers.append(torch.where(number < 0, number, number + start))
    nothing = queries.new_zeros(0, k)
    return torch.cat([nothing, *distances]), torch.cat([nothing.long(), *numbers])


def _nearest(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    away = _squared(queries.detach()[:, None] - points.detach()[None])
    away = torch.where(away < torch.inf, away, torch.inf)  # nan is as far as infinity
    away, order = away.sort(dim=1, stable=True)
    found, order = away[:, :k] < torch.inf, order[:, :k]
    # Only then, so that points that are not found, nan among them, have a gradient of 0.
    apart = torch.where(found[..., None], queries[:, None] - points[order], 0)
    squared = torch.where(found, _squared(apart), torch.inf)
    missing = k - order.shape[1]
    return (
        torch.nn.functional.pad(squared, (0, missing), value=torch.inf),
        torch.nn.functional.pad(torch.where(found, order, -1), (0, missing), value=-1),
    )


def _squared(differences: Tensor) -> Tensor:
    x, y, z = differences.unbind(-1)
    return x * x + y * y + z * z  # in this order: fast paths decide on the same bits
