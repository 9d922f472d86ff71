"""Fast path on the CPU: a k-d tree whose nodes know their farthest point, one thread a cloud.

A choice is passed down the tree only into nodes whose box is nearer to it than their farthest point is to the points
chosen before: elsewhere it changes nothing. Distances are computed in the points' dtype in the order of the reference,
and equals are decided by number, so the choices are the reference's. The idea of skipping whole buckets is that of
QuickFPS (Han et al. 2023, doi:10.1109/TCAD.2023.3274922).
"""

# Compiled functions take arrays, not objects; implementations take all arguments by position.
# ruff: noqa: PLR0917
from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.points.ragged import whole
from maquette_kernels.points.tree import DEEPEST, away_from, plant
from maquette_kernels.threads import in_chunks

_LEAVES = 256
_LEAF = (16, 256)
"""A tree has about so many leaves, of so many points at least and at most."""


def forward(points: Tensor, count: int, offsets: Tensor | None, start: int) -> Tensor:
    """Numbers of the chosen points, a row for each cloud."""
    leaf = min(max(points.shape[0] // _LEAVES, _LEAF[0]), _LEAF[1])
    trees = plant(points.contiguous().numpy(), whole(offsets, points).numpy(), leaf)
    chosen = torch.full((len(trees.roots), count), -1)
    rows = chosen.numpy()

    def ask(first: int, last: int) -> None:
        for cloud in range(first, last):
            of_cloud = slice(trees.bounds[cloud], trees.bounds[cloud + 1])
            nodes = slice(trees.roots[cloud], trees.roots[cloud] + 2 ** (trees.depths[cloud] + 1) - 1)
            placed = np.ascontiguousarray(trees.points[of_cloud].T)
            away = np.full(placed.shape[1], np.inf, placed.dtype)
            # Distances order as their bits do, and largest whole numbers are found many at a time.
            away = away, away.view(f"i{away.itemsize}")
            _choose(placed, trees.order[of_cloud], trees.boxes[nodes], away, trees.depths[cloud], start, rows[cloud])

    in_chunks(ask, len(trees.roots), 1)
    return chosen


@njit(cache=True, nogil=True)
def _choose(points, order, boxes, distances, depth, start, chosen):
    """One cloud: points are [3, N] in the order of the tree."""
    count = points.shape[1]
    if count == 0 or len(chosen) == 0:
        return
    away, bits = distances
    top = np.full(len(boxes), np.inf, points.dtype)  # of each node, how far its farthest point is
    where = np.zeros(len(boxes), np.int64)  # and its place in the order of the tree
    stack, trail = np.empty(2 * DEEPEST, np.int64), np.empty(len(boxes), np.int64)
    # Points of the cloud are numbered from the lowest of them.
    place = np.argmax(order == order.min() + min(start, count - 1))
    for step in range(min(count, len(chosen))):
        chosen[step] = order[place]
        _pass_down(points, order, boxes, (away, bits, top, where), depth, place, stack, trail)
        place = where[0]


@njit(cache=True, nogil=True)
def _pass_down(points, order, boxes, state, depth, place, stack, trail):
    """Take a choice into account wherever it is nearer than those before."""
    away, bits, top, where = state
    x, y, z = points[0, place], points[1, place], points[2, place]
    count, inner = points.shape[1], (1 << depth) - 1
    visited, height = 0, 1
    stack[0] = 0
    while height:
        height -= 1
        node = stack[height]
        if away_from(boxes[node], x, y, z) > top[node]:  # where equal, it may hold the chosen point itself
            continue
        if node < inner:
            trail[visited] = node
            stack[height], stack[height + 1] = 2 * node + 1, 2 * node + 2
            visited, height = visited + 1, height + 2
            continue
        leaf = node - inner
        first, last = (count * leaf) >> depth, (count * (leaf + 1)) >> depth
        # Slices begin at 0, which lets the compiler see that no index is negative, and use vectors.
        here = slice(first, last)
        _draw_near(points[0, here], points[1, here], points[2, here], away[here], x, y, z)
        if first <= place < last:
            away[place] = -1  # never chosen again, not even among equals
        where[node] = first + _farthest(bits[here], order[here])
        top[node] = away[where[node]]
    for i in range(visited - 1, -1, -1):
        node, left, right = trail[i], 2 * trail[i] + 1, 2 * trail[i] + 2
        lower = order[where[left]] < order[where[right]]
        best = left if top[left] > top[right] or (top[left] == top[right] and lower) else right
        top[node], where[node] = top[best], where[best]


@njit(cache=True, nogil=True)
def _draw_near(xs, ys, zs, away, x, y, z):
    for i in range(len(away)):
        u, v, w = xs[i] - x, ys[i] - y, zs[i] - z
        squared = u * u + v * v + w * w
        away[i] = squared if squared < away[i] else away[i]


@njit(cache=True, nogil=True)
def _farthest(bits, order):
    """The place of the largest distance; of equal ones that of the lowest number."""
    largest = bits[0]
    for i in range(len(bits)):
        largest = max(largest, bits[i])
    best = -1
    for i in range(len(bits)):
        if bits[i] == largest and (best < 0 or order[i] < order[best]):
            best = i
    return best
