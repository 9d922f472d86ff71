"""Fast path on the CPU: a k-d tree for each cloud, searched in chunks of queries by as many threads as torch has.

Distances are computed in the points' dtype in the order of the reference, and a point replaces another that is
exactly as far if its number is lower, so numbers and distances are the reference's bit for bit.
"""

# Compiled functions take arrays, not objects; implementations take all arguments by position.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.points.ragged import whole
from maquette_kernels.points.tree import DEEPEST, away_from, plant
from maquette_kernels.threads import in_chunks

_LEAF = 8
_CHUNK = 2048


def forward(
    queries: Tensor, points: Tensor, k: int, query_offsets: Tensor | None, point_offsets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Squared distances and numbers of the nearest points."""
    trees = plant(points.contiguous().numpy(), whole(point_offsets, points).numpy(), _LEAF)
    squared = torch.full((queries.shape[0], k), torch.inf, dtype=queries.dtype)
    number = torch.full((queries.shape[0], k), -1)
    bounds = whole(query_offsets, queries).numpy()
    rows = queries.contiguous().numpy(), squared.numpy(), number.numpy()
    tree = trees.points, trees.order, trees.boxes, trees.lowest, trees.bounds, trees.roots, trees.depths

    def ask(start: int, stop: int) -> None:
        _search(start, stop, bounds, rows, tree)

    in_chunks(ask, queries.shape[0], _CHUNK)
    return squared, number


def backward(arguments: Any, residuals: Any, gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients of queries and points; one thread adds them up, in the order of the queries."""
    queries, points = arguments[:2]
    above = gradients[0]
    if above is None:
        return None, None
    to_queries, to_points = (torch.zeros(t.shape, dtype=t.dtype) for t in (queries, points))
    operands = (queries, points, residuals[0], above, to_queries, to_points)
    _pull(*(operand.contiguous().numpy() for operand in operands))
    return to_queries, to_points


@njit(cache=True, nogil=True)
def _search(start, stop, bounds, rows, tree):
    queries, squared, number = rows
    points, order, boxes, lowest, clouds, roots, depths = tree
    stack = np.empty(2 * DEEPEST, np.int64)
    away = np.empty(2 * DEEPEST, queries.dtype)
    cloud = np.searchsorted(bounds, start, side="right") - 1
    for row in range(start, stop):
        while cloud + 1 < len(bounds) and row >= bounds[cloud + 1]:
            cloud += 1
        if cloud < 0 or cloud >= len(roots):
            continue
        first, last = clouds[cloud], clouds[cloud + 1]
        if last <= first:
            continue
        root = roots[cloud]
        nodes = 2 ** (depths[cloud] + 1) - 1
        one = queries[row], squared[row], number[row]
        of_cloud = points[first:last], order[first:last], boxes[root : root + nodes], lowest[root : root + nodes]
        _descend(one, of_cloud, depths[cloud], stack, away)


@njit(cache=True, nogil=True)
def _descend(one, tree, depth, stack, away):
    """Visit the leaves that may hold a neighbour of one query, the nearest first."""
    query, squared, number = one
    points, order, boxes, lowest = tree
    x, y, z = query[0], query[1], query[2]
    worst = len(squared) - 1
    inner = (1 << depth) - 1
    stack[0], away[0], height = 0, 0, 1
    while height:
        height -= 1
        node = stack[height]
        if away[height] > squared[worst] or (away[height] == squared[worst] and lowest[node] > number[worst]):
            continue
        while node < inner:
            near, far = 2 * node + 1, 2 * node + 2
            to_near, to_far = away_from(boxes[near], x, y, z), away_from(boxes[far], x, y, z)
            if to_far < to_near or (to_far == to_near and lowest[far] < lowest[near]):
                near, far, to_near, to_far = far, near, to_far, to_near
            if to_near > squared[worst]:
                break
            if to_far <= squared[worst]:
                stack[height], away[height] = far, to_far
                height += 1
            node = near
        if node < inner:
            continue
        place = node - inner
        start, stop = (len(points) * place) >> depth, (len(points) * (place + 1)) >> depth
        for i in range(start, stop):
            u, v, w = x - points[i, 0], y - points[i, 1], z - points[i, 2]
            found = u * u + v * v + w * w
            if found < squared[worst] or (found == squared[worst] and order[i] < number[worst]):
                _insert(squared, number, found, order[i])


@njit(cache=True, nogil=True)
def _insert(squared, number, found, which):
    """Put a point in its place in a row that is ordered by distance, then by number."""
    place = len(squared) - 1
    while place > 0 and (found < squared[place - 1] or (found == squared[place - 1] and which < number[place - 1])):
        squared[place], number[place] = squared[place - 1], number[place - 1]
        place -= 1
    squared[place], number[place] = found, which


@njit(cache=True, nogil=True)
def _pull(queries, points, number, above, to_queries, to_points):
    for row in range(number.shape[0]):
        for column in range(number.shape[1]):
            which = number[row, column]
            if which < 0:
                continue
            twice = 2 * above[row, column]
            for axis in range(3):
                part = twice * (queries[row, axis] - points[which, axis])
                to_queries[row, axis] += part
                to_points[which, axis] -= part
