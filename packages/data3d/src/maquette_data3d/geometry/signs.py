"""Signs of cells around a closed surface: asked for where the surface is near, carried over elsewhere."""

from __future__ import annotations

import numpy as np
from numba import njit


def is_closed(faces: np.ndarray) -> bool:
    """Every edge is passed as often one way as the other: no boundary, whatever else is wrong."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    count = int(edges.max()) + 1 if len(edges) else 1
    forward = np.sort(edges[:, 0] * count + edges[:, 1])
    backward = np.sort(edges[:, 1] * count + edges[:, 0])
    return bool((forward == backward).all())


@njit(cache=True)
def regions(distance, cell):
    """Regions of cells that share their sign, and one cell of each.

    The way from a cell to the next one cannot pass through the surface when either is farther from it than
    they are apart. Cells right at the surface are regions of their own.

    Args:
        distance: float32 [R, R, R], unsigned; NaN where it was not computed.
        cell: distance between neighbours.

    Returns:
        region int32 [R, R, R] (-1 where there is no distance), first cell of each region int64 [N, 3].
    """
    size = distance.shape[0]
    region = np.full(distance.shape, -1, np.int32)
    first = np.empty((distance.size, 3), np.int64)
    queue = np.empty((distance.size, 3), np.int16)
    count = 0
    for i in range(size):
        for j in range(size):
            for k in range(size):
                if region[i, j, k] >= 0 or np.isnan(distance[i, j, k]):
                    continue
                region[i, j, k] = count
                first[count, 0], first[count, 1], first[count, 2] = i, j, k
                queue[0, 0], queue[0, 1], queue[0, 2] = i, j, k
                _walk(distance, cell, region, queue, count)
                count += 1
    return region, first[:count]


@njit(cache=True)
def _walk(distance, cell, region, queue, number):
    size, head, tail = distance.shape[0], 0, 1
    while head < tail:
        x, y, z = queue[head, 0], queue[head, 1], queue[head, 2]
        head += 1
        for side in range(6):
            step = 1 if side % 2 else -1
            u, v, w = x + (side // 2 == 0) * step, y + (side // 2 == 1) * step, z + (side // 2 == 2) * step
            if u < 0 or v < 0 or w < 0 or u >= size or v >= size or w >= size or region[u, v, w] >= 0:
                continue
            if np.isnan(distance[u, v, w]) or max(distance[x, y, z], distance[u, v, w]) <= cell:
                continue
            region[u, v, w] = number
            queue[tail, 0], queue[tail, 1], queue[tail, 2] = u, v, w
            tail += 1
