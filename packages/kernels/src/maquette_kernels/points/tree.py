"""A balanced k-d tree of points over the CPU, for a ragged batch of clouds; what both CPU paths search.

A cloud of n points has 2^depth leaves; leaf j holds its points ``n*j >> depth`` to ``n*(j+1) >> depth`` in the order
of the tree. Nodes are numbered as in a heap: the children of i are 2i + 1 and 2i + 2.

Boxes are of the points' own dtype, and distances to them are rounded as distances to points are: since rounding
never turns a smaller number into a larger one, no point is nearer than its box, not by one bit, and a search that
prunes by boxes finds exactly what a search of all points finds.
"""

# Compiled functions take arrays, not objects.
# ruff: noqa: PLR0917
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

DEEPEST = 48  # levels; 2^31 points in leaves of one are fewer


@dataclass(frozen=True)
class Trees:
    """The trees of B clouds, end to end.

    Attributes:
        points: [N, 3] in the order of the trees; nan is infinity.
        order: int64 [N], the number that each had.
        boxes: [nodes, 6], least and largest coordinates.
        lowest: int64 [nodes], the lowest number among the points of a node.
        bounds: int64 [B + 1], where the points of each cloud begin; they may leave out points at either end.
        roots: int64 [B], where the nodes of each cloud begin.
        depths: int64 [B].
    """

    points: np.ndarray
    order: np.ndarray
    boxes: np.ndarray
    lowest: np.ndarray
    bounds: np.ndarray
    roots: np.ndarray
    depths: np.ndarray


def plant(points: np.ndarray, bounds: np.ndarray, leaf: int) -> Trees:
    """Build the trees of clouds.

    Args:
        points: float32 or float64 [N, 3]; bounds: int64 [B + 1]; leaf: points that a leaf holds at most.
    """
    sizes = np.diff(bounds)
    depths = np.ceil(np.log2(np.maximum(sizes / leaf, 1))).astype(np.int64)
    nodes = 2 ** (depths + 1) - 1
    roots = np.cumsum(nodes) - nodes
    ordered = np.where(np.isnan(points), points.dtype.type(np.inf), points)
    order = np.arange(len(points))
    boxes = np.empty((nodes.sum(), 6), points.dtype)
    lowest = np.empty(len(boxes), np.int64)
    for cloud in range(len(sizes)):
        of_cloud = slice(bounds[cloud], bounds[cloud + 1])
        of_tree = slice(roots[cloud], roots[cloud] + nodes[cloud])
        _grow(ordered[of_cloud], order[of_cloud], boxes[of_tree], lowest[of_tree], depths[cloud])
    return Trees(ordered, order, boxes, lowest, np.asarray(bounds), roots, depths)


@njit(cache=True, nogil=True)
def _grow(points, order, boxes, lowest, depth):
    count = len(points)
    for level in range(depth):
        for place in range(1 << level):
            start, stop = (count * place) >> level, (count * (place + 1)) >> level
            node = (1 << level) - 1 + place
            _enclose(points, order, start, stop, boxes[node], lowest, node)
            widest = 0
            for axis in range(1, 3):
                if boxes[node, 3 + axis] - boxes[node, axis] > boxes[node, 3 + widest] - boxes[node, widest]:
                    widest = axis
            _split(points, order, start, stop, (count * (2 * place + 1)) >> (level + 1), widest)
    for place in range(1 << depth):
        node = (1 << depth) - 1 + place
        start, stop = (count * place) >> depth, (count * (place + 1)) >> depth
        _enclose(points, order, start, stop, boxes[node], lowest, node)


@njit(cache=True, nogil=True)
def _enclose(points, order, start, stop, box, lowest, node):
    """The box of points, and their lowest number."""
    box[:3] = np.inf
    box[3:] = -np.inf
    number = np.int64(1) << 62
    for i in range(start, stop):
        for axis in range(3):
            box[axis] = min(box[axis], points[i, axis])
            box[3 + axis] = max(box[3 + axis], points[i, axis])
        number = min(number, order[i])
    lowest[node] = number


@njit(cache=True, nogil=True)
def _split(points, order, start, stop, middle, axis):
    """Order points so that none before ``middle`` lies beyond one from there on (Hoare's selection)."""
    low, high = start, stop - 1
    while low < high:
        pivot = points[(low + high) // 2, axis]
        i, j = low, high
        while i <= j:
            while points[i, axis] < pivot:
                i += 1
            while points[j, axis] > pivot:
                j -= 1
            if i <= j:
                for c in range(3):
                    points[i, c], points[j, c] = points[j, c], points[i, c]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return


@njit(cache=True, nogil=True, inline="always")
def away_from(box, x, y, z):
    """Squared distance from a point to a box; 0 inside."""
    u = max(box[0] - x, x - box[3], box.dtype.type(0))
    v = max(box[1] - y, y - box[4], box.dtype.type(0))
    w = max(box[2] - z, z - box[5], box.dtype.type(0))
    return u * u + v * v + w * w
