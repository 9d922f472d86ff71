"""Operations on clouds of points as plain functions."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.points.farthest_points import FARTHEST_POINTS
from maquette_kernels.points.nearest_neighbours import NEAREST_NEIGHBOURS

_BATCHED_RANK = 3


def nearest_neighbours(
    queries: Tensor,
    points: Tensor,
    k: int = 1,
    query_offsets: Tensor | None = None,
    point_offsets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The k nearest points of each query, exactly, nearest first; among equals the lowest number first.

    A query finds points of its own cloud only, and itself where it is one of them. Points at an infinite distance or
    at none (nan) are nobody's neighbours. float16 and bfloat16 are taken as float32.

    Args:
        queries: [P, 3]; or [B, P, 3], a batch of equally large clouds.
        points: [Q, 3] or [B, Q, 3], dtype of the queries, Q < 2^31.
        k: at least 1 (Triton: at most 64).
        query_offsets: for a ragged batch, where the queries of each cloud begin: int64 [B + 1] from 0 to P, never
            falling; equal neighbours are an empty cloud. The values are not checked, which would stall a GPU.
        point_offsets: the same for the points; as many clouds.

    Returns:
        Squared distances [P, k] or [B, P, k] in the points' unit squared, differentiable in queries and points, and
        the numbers of the points, int64, counted over all clouds of a ragged batch but within each of a batch
        [B, Q, 3]. Where a cloud has fewer than k points, the distances of the others are infinite, their numbers -1
        and their gradients 0.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: k-d trees (Friedman, Bentley and Finkel 1977, doi:10.1145/355744.355745) on the CPU, all pairs on GPUs.
    """
    if queries.dtype in {torch.float16, torch.bfloat16}:
        queries, points = queries.float(), points.float()
    if queries.dim() != _BATCHED_RANK:
        squared, number = NEAREST_NEIGHBOURS(queries, points, k, query_offsets, point_offsets)
        return squared, number
    if query_offsets is not None or point_offsets is not None:
        raise MaquetteError("nearest_neighbours: offsets are for clouds end to end [P, 3]; drop them or flatten")
    return _of_batch(queries, points, k)


def farthest_points(points: Tensor, count: int, offsets: Tensor | None = None, start: int = 0) -> Tensor:
    """Points of a cloud, each the farthest from those chosen before it; among equals the one of the lowest number.

    The choices are the same on every device. No point is chosen twice. Not differentiable. float16 and bfloat16 are
    taken as float32.

    Args:
        points: [N, 3], finite; or [B, N, 3], a batch of equally large clouds.
        count: how many to choose of each cloud.
        offsets: for a ragged batch, where each cloud begins: int64 [B + 1] from 0 to N, never falling; equal
            neighbours are an empty cloud. The values are not checked, which would stall a GPU.
        start: the number, within each cloud, of its first choice; the last of its points where it has fewer.

    Returns:
        Numbers of the chosen points, int64: [count] for one cloud; [B, count] with offsets, counted over all clouds;
        [B, count] for a batch [B, N, 3], counted within each. -1 where a cloud has no more points.

    Raises:
        MaquetteError: shapes or dtypes that do not fit, or a negative count or start.

    Source: farthest-point sampling (Eldar et al. 1997, doi:10.1109/83.623193); pruned on the CPU by a tree, as in
    QuickFPS (Han et al. 2023, doi:10.1109/TCAD.2023.3274922).
    """
    if points.dtype in {torch.float16, torch.bfloat16}:
        points = points.float()
    if points.dim() != _BATCHED_RANK:
        chosen: Tensor = FARTHEST_POINTS(points.detach(), count, offsets, start)
        return chosen[0] if offsets is None else chosen
    if offsets is not None:
        raise MaquetteError("farthest_points: offsets are for clouds end to end [N, 3]; drop them or flatten")
    flat, starts = _end_to_end(points.detach())
    chosen = FARTHEST_POINTS(flat, count, starts, start)
    return torch.where(chosen < 0, chosen, chosen - starts[:-1, None])


def chamfer_distance(
    a: Tensor,
    b: Tensor,
    a_offsets: Tensor | None = None,
    b_offsets: Tensor | None = None,
    *,
    squared: bool = True,
) -> Tensor:
    """Mean distance from each point of one cloud to the nearest of the other, both ways added.

    Args:
        a: [P, 3] or [B, P, 3]; see :func:`nearest_neighbours` for batches and dtypes.
        b: [Q, 3] or [B, Q, 3].
        a_offsets: int64 [B + 1] of a ragged batch.
        b_offsets: int64 [B + 1], given if ``a_offsets`` is.
        squared: mean of squared distances, which is smooth; else of distances, whose gradient between coinciding
            points is taken to be 0.

    Returns:
        One number for one cloud (no dimensions), else [B]; differentiable in a and b. Of two empty clouds it is 0, of
        an empty one and another infinite.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: Fan, Su and Guibas 2017, arXiv:1612.00603.
    """
    total: Tensor | None = None
    for (queries, query_offsets), (points, point_offsets) in _both_ways((a, a_offsets), (b, b_offsets)):
        away = nearest_neighbours(queries, points, 1, query_offsets, point_offsets)[0].squeeze(-1)
        means = _means(away if squared else _root(away), query_offsets)
        total = means if total is None else total + means
    assert total is not None
    return _infinite_where_one_is_empty(total, (a, a_offsets), (b, b_offsets))


def f_score(
    a: Tensor,
    b: Tensor,
    threshold: float,
    a_offsets: Tensor | None = None,
    b_offsets: Tensor | None = None,
) -> Tensor:
    """Harmonic mean of the shares of points of each cloud that lie within ``threshold`` of the other.

    Args:
        a: [P, 3] or [B, P, 3]; see :func:`nearest_neighbours` for batches and dtypes.
        b: [Q, 3] or [B, Q, 3].
        threshold: a distance, not squared, in the points' unit; what lies exactly at it counts.
        a_offsets: int64 [B + 1] of a ragged batch.
        b_offsets: int64 [B + 1], given if ``a_offsets`` is.

    Returns:
        From 0 to 1, one number for one cloud (no dimensions), else [B]; 0 where a cloud is empty. Not differentiable.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: Knapitsch et al. 2017, doi:10.1145/3072959.3073599.
    """
    shares = []
    with torch.no_grad():
        for (queries, query_offsets), (points, point_offsets) in _both_ways((a, a_offsets), (b, b_offsets)):
            away = nearest_neighbours(queries, points, 1, query_offsets, point_offsets)[0].squeeze(-1)
            shares.append(_means((away <= threshold * threshold).to(away.dtype), query_offsets))
    precision, recall = shares
    both = precision + recall
    return torch.where(both > 0, 2 * precision * recall / torch.where(both > 0, both, 1), 0)


def _of_batch(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Neighbours within each cloud of a batch [B, P, 3]."""
    flat, starts = _end_to_end(queries)
    others, other_starts = _end_to_end(points)
    squared, number = NEAREST_NEIGHBOURS(flat, others, k, starts, other_starts)
    shape = (*queries.shape[:2], k)
    number = number.view(shape)
    return squared.view(shape), torch.where(number < 0, number, number - other_starts[:-1, None, None])


Cloud = tuple[Tensor, Tensor | None]


def _both_ways(a: Cloud, b: Cloud) -> tuple[tuple[Cloud, Cloud], tuple[Cloud, Cloud]]:
    return (a, b), (b, a)


def _end_to_end(points: Tensor) -> tuple[Tensor, Tensor]:
    """A batch [B, N, 3] as clouds end to end [B * N, 3], and their offsets."""
    if points.dim() != _BATCHED_RANK:
        raise MaquetteError(f"points: both clouds must be [N, 3] or both [B, N, 3], got {tuple(points.shape)}")
    clouds, size = points.shape[:2]
    return points.reshape(clouds * size, points.shape[2]), torch.arange(clouds + 1, device=points.device) * size


def _root(squared: Tensor) -> Tensor:
    """Square roots whose gradient at 0 is 0."""
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)


def _means(values: Tensor, offsets: Tensor | None) -> Tensor:
    """Means of the clouds' values, 0 where there are none; sums in a fixed order."""
    if offsets is None:
        return values.sum(-1) / max(values.shape[-1], 1)
    sums: Tensor = torch.segment_reduce(values, "sum", offsets=offsets, initial=0, unsafe=True)
    return sums / offsets.diff().clamp(min=1)


def _infinite_where_one_is_empty(distance: Tensor, *clouds: Cloud) -> Tensor:
    """No distance is known between an empty cloud and another."""
    if all(offsets is None for _, offsets in clouds):
        sizes = {points.shape[-2] for points, _ in clouds}
        return distance + torch.inf if len(sizes) > 1 and 0 in sizes else distance
    a, b = (offsets.diff() for _, offsets in clouds if offsets is not None)
    return torch.where((a == 0) != (b == 0), torch.inf, distance)
