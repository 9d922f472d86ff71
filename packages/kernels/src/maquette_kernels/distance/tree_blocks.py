"""Distances of whole blocks of points at once: triangles that can be the nearest are gathered once a block."""

# Compiled kernels take each of their arrays by itself.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.distance.tree_build import TRIANGLE_ROWS, WIDTH
from maquette_kernels.distance.tree_query import STACK, search, to_boxes, to_triangles

# From more triangles on, descending the tree for each point is faster.
_MOST_LEAVES, _MOST_TRIANGLES = 256, 256
_SLACK = 1 + 1e-9


@njit(cache=True, nogil=True)
def _leaves_within(boxes, child, x, y, z, squared, nodes, lane, leaves):
    """Fills `leaves` with those whose box is within a squared distance; their number, -1 when they do not fit."""
    count, top = 0, 1
    nodes[0] = 0
    while top > 0:
        top -= 1
        node = nodes[top]
        if node < 0:
            if count == len(leaves):
                return -1
            leaves[count] = -1 - node
            count += 1
            continue
        to_boxes(boxes, node, x, y, z, lane)
        first = child[node]
        for i in range(WIDTH):
            if lane[i] <= squared:
                nodes[top] = first + i if first >= 0 else first - i
                top += 1
    return count


@njit(cache=True, nogil=True)
def _gather(block, leaves, count, x, y, z, squared, lane, packed):
    """Packs the triangles within a squared distance as leaves of their own; their number, -1 when they do not fit."""
    found = 0
    for n in range(count):
        to_triangles(block, leaves[n], x, y, z, lane)
        for i in range(WIDTH):
            if lane[i] <= squared:
                if found == _MOST_TRIANGLES:
                    return -1
                for row in range(TRIANGLE_ROWS):
                    packed[found // WIDTH, row, found % WIDTH] = block[leaves[n], row, i]
                found += 1
    for spare in range(found, found + (-found) % WIDTH):
        for row in range(TRIANGLE_ROWS):
            packed[spare // WIDTH, row, spare % WIDTH] = packed[0, row, 0]
    return found


@njit(cache=True, nogil=True)
def block_distances(boxes, child, block, centres, away, reach, offsets, start, stop, distance):
    """Fills distance [N, C] of the points centres + offsets, for blocks start:stop.

    What is nearest to a point within `reach` of the centre is within away + 2 reach of the centre.
    """
    nodes, bounds, lane = np.empty(STACK, np.int64), np.empty(STACK), np.empty(WIDTH)
    leaves, packed = np.empty(_MOST_LEAVES, np.int64), np.empty((_MOST_TRIANGLES // WIDTH, TRIANGLE_ROWS, WIDTH))
    for n in range(start, stop):
        x, y, z = centres[n, 0], centres[n, 1], centres[n, 2]
        squared = (away[n] + 2 * reach) ** 2 * _SLACK
        found = _leaves_within(boxes, child, x, y, z, squared, nodes, lane, leaves)
        if found >= 0:
            found = _gather(block, leaves, found, x, y, z, squared, lane, packed)
        for c in range(len(offsets)):
            u, v, w = x + offsets[c, 0], y + offsets[c, 1], z + offsets[c, 2]
            best = np.inf
            if found > 0:
                for group in range((found + WIDTH - 1) // WIDTH):
                    to_triangles(packed, group, u, v, w, lane)
                    for i in range(WIDTH):
                        best = min(best, lane[i])
            else:
                bound = (away[n] + reach) ** 2 * _SLACK
                place = search(boxes, child, block, u, v, w, bound, nodes, bounds, lane)
                to_triangles(block, place // WIDTH, u, v, w, lane)
                best = lane[place % WIDTH]
            distance[n, c] = np.sqrt(best)
