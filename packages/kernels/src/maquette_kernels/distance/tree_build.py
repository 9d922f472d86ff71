"""Building a triangle tree: medians, boxes of eight, and the moments that far winding numbers need."""

from __future__ import annotations

import numpy as np
from numba import njit

WIDTH = 8
# Rows of a leaf's block [16, 8]: corner, two edges, inverse squared lengths of the edges ab, ac, bc and of the normal.
TRIANGLE_ROWS = 13
# Rows of a node's moments [16, 8]: centre, area vector, symmetric first moment (xx yy zz xy xz yz), radius squared.
MOMENT_ROWS = 13


def split(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Faces in the order of the leaves, where each leaf starts, and the number of halvings.

    Args:
        corners: float64 [F, 3, 3].

    Returns:
        order int64 [F], starts int64 [2^levels + 1], levels.
    """
    count, levels = len(corners), 0
    while (count + (1 << levels) - 1) >> levels > WIDTH:
        levels += 1
    order = np.arange(count)
    _halve(corners[:, 0] + corners[:, 1] + corners[:, 2], order, levels)
    return order, (np.arange((1 << levels) + 1) * count) >> levels, levels


@njit(cache=True, nogil=True)
def _halve(centres, order, levels):
    count = len(order)
    for level in range(levels):
        for part in range(1 << level):
            start, stop = (part * count) >> level, ((part + 1) * count) >> level
            middle = ((2 * part + 1) * count) >> (level + 1)
            axis, widest = 0, -1.0
            for k in range(3):
                low, high = np.inf, -np.inf
                for i in range(start, stop):
                    low, high = min(low, centres[order[i], k]), max(high, centres[order[i], k])
                if high - low > widest:
                    axis, widest = k, high - low
            _select(centres[:, axis], order, start, stop - 1, middle)


@njit(cache=True, nogil=True)
def _select(keys, order, low, high, middle):
    """Moves the smaller keys of order[low:high + 1] before `middle` (Hoare's quickselect)."""
    while low < high:
        pivot = keys[order[(low + high) >> 1]]
        i, j = low, high
        while i <= j:
            while keys[order[i]] < pivot:
                i += 1
            while keys[order[j]] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return


@njit(cache=True, nogil=True)
def leaves(corners, order, starts):
    """Triangles of each leaf float64 [L, 13, 8] (rows: see TRIANGLE_ROWS) and their faces int32 [L, 8], -1 for none."""
    count = len(starts) - 1
    block, ids = np.zeros((count, TRIANGLE_ROWS, WIDTH)), np.full((count, WIDTH), -1, np.int32)
    for leaf in range(count):
        for lane in range(WIDTH):
            # A lane without a triangle repeats the first one's corner, without extent.
            place = starts[leaf] + lane
            real = place < starts[leaf + 1]
            face = order[place if real else starts[leaf]]
            for k in range(3):
                block[leaf, k, lane] = corners[face, 0, k]
            if real:
                ids[leaf, lane] = face
                _edges(corners, face, block, leaf, lane)
    return block, ids


@njit(cache=True, nogil=True)
def _edges(corners, face, block, leaf, lane):
    """Fills a lane's edges and the inverse squared lengths, 0 where there is no length."""
    ux, uy, uz = (
        corners[face, 1, 0] - corners[face, 0, 0],
        corners[face, 1, 1] - corners[face, 0, 1],
        corners[face, 1, 2] - corners[face, 0, 2],
    )
    vx, vy, vz = (
        corners[face, 2, 0] - corners[face, 0, 0],
        corners[face, 2, 1] - corners[face, 0, 1],
        corners[face, 2, 2] - corners[face, 0, 2],
    )
    block[leaf, 3, lane], block[leaf, 4, lane], block[leaf, 5, lane] = ux, uy, uz
    block[leaf, 6, lane], block[leaf, 7, lane], block[leaf, 8, lane] = vx, vy, vz
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    lengths = (
        ux * ux + uy * uy + uz * uz,
        vx * vx + vy * vy + vz * vz,
        (vx - ux) ** 2 + (vy - uy) ** 2 + (vz - uz) ** 2,
        nx * nx + ny * ny + nz * nz,
    )
    for k in range(4):
        block[leaf, 9 + k, lane] = 1.0 / lengths[k] if lengths[k] > 0.0 else 0.0


def boxes(corners: np.ndarray, order: np.ndarray, starts: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of every inner node's children, and where those stand.

    Returns:
        boxes float64 [N, 6, 8] (low, high), empty ones without any point; child int64 [N]: the first child's number
        among the nodes, or -1 - its number among the leaves. Node 0 is the root.
    """
    a, b, c = corners.transpose(1, 0, 2)
    low = np.minimum.reduceat(np.minimum(np.minimum(a, b), c)[order], starts[:-1], axis=0)
    high = np.maximum.reduceat(np.maximum(np.maximum(a, b), c)[order], starts[:-1], axis=0)
    blocks, children = [], []
    first, leaf = 0, True
    widths = widths_of(levels)
    for width in widths:
        count = len(low) // width
        block = np.empty((count, 6, WIDTH))
        block[:, :3], block[:, 3:] = np.inf, -np.inf
        block[:, :3, :width] = low.reshape(count, width, 3).transpose(0, 2, 1)
        block[:, 3:, :width] = high.reshape(count, width, 3).transpose(0, 2, 1)
        blocks.append(block)
        children.append((first + np.arange(count) * width, leaf))
        low, high = low.reshape(count, width, 3).min(1), high.reshape(count, width, 3).max(1)
        first, leaf = 0, False
    # The levels are stored from the root downwards.
    sizes = [len(block) for block in blocks]
    numbers = []
    for level, (place, is_leaf) in enumerate(children):
        below = sum(sizes[level:])
        numbers.append(-1 - place if is_leaf else place + below)
    return np.concatenate(blocks[::-1]), np.concatenate(numbers[::-1])


def widths_of(levels: int) -> list[int]:
    """Children a node has on each level, from the leaves' parents up to the root."""
    widths = [WIDTH] * (levels // 3)
    if levels % 3 or not widths:
        widths.append(1 << levels % 3)
    return widths


def moments(corners: np.ndarray, order: np.ndarray, starts: np.ndarray, levels: int, boxes: np.ndarray) -> np.ndarray:
    """What far winding numbers need of every inner node's children: float64 [N, 13, 8] (rows: see MOMENT_ROWS)."""
    area, centre, total, moment = _of_leaves(corners, order, starts)
    blocks = []
    top = len(boxes)
    for width in widths_of(levels):
        count = len(area) // width
        block = np.zeros((count, MOMENT_ROWS, WIDTH))
        top -= count
        spread = np.stack([centre, total], 1).reshape(count, width, 6)
        block[:, :6, :width] = spread.transpose(0, 2, 1)
        both = (moment + moment.transpose(0, 2, 1)) / 2
        six = both[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].reshape(count, width, 6)
        block[:, 6:12, :width] = six.transpose(0, 2, 1)
        here = boxes[top : top + count]
        low, high = here[:, :3, :width], here[:, 3:, :width]
        middle = block[:, :3, :width]
        block[:, 12, :width] = (np.maximum(high - middle, middle - low) ** 2).sum(1)
        blocks.append(block)
        starting = np.arange(count) * width
        area, centre, total, moment = _gathered(area, centre, total, moment, starting)
    return np.concatenate(blocks[::-1])


@njit(cache=True, nogil=True)
def _of_leaves(corners, order, starts):
    """Areas [L], centres [L, 3], area vectors [L, 3] and first moments [L, 3, 3] of the leaves."""
    count = len(starts) - 1
    area, centre = np.empty(count), np.zeros((count, 3))
    total, moment = np.zeros((count, 3)), np.zeros((count, 3, 3))
    vector, middle, weights = np.empty((WIDTH, 3)), np.empty((WIDTH, 3)), np.empty(WIDTH)
    for leaf in range(count):
        here = starts[leaf + 1] - starts[leaf]
        area[leaf] = 0.0
        for n in range(here):
            c = corners[order[starts[leaf] + n]]
            for k in range(3):
                i, j = (k + 1) % 3, (k + 2) % 3
                cross = (c[1, i] - c[0, i]) * (c[2, j] - c[0, j]) - (c[1, j] - c[0, j]) * (c[2, i] - c[0, i])
                vector[n, k], middle[n, k] = cross / 2, (c[0, k] + c[1, k] + c[2, k]) / 3
            weights[n] = np.sqrt(vector[n, 0] ** 2 + vector[n, 1] ** 2 + vector[n, 2] ** 2) + 1e-300
            area[leaf] += weights[n]
        for n in range(here):
            for k in range(3):
                centre[leaf, k] += middle[n, k] * (weights[n] / area[leaf])
                total[leaf, k] += vector[n, k]
        for n in range(here):
            for k in range(3):
                for i in range(3):
                    moment[leaf, k, i] += vector[n, k] * (middle[n, i] - centre[leaf, i])
    return area, centre, total, moment


def _gathered(
    area: np.ndarray, centre: np.ndarray, total: np.ndarray, moment: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Areas, centres, area vectors and first moments of runs of parts, about each run's own centre."""
    sizes = np.diff(np.append(starts, len(area)))
    areas = np.add.reduceat(area, starts)
    middle = np.add.reduceat(area[:, None] * centre, starts) / areas[:, None]
    away = centre - np.repeat(middle, sizes, axis=0)
    moments = np.add.reduceat(moment + total[:, :, None] * away[:, None, :], starts)
    return areas, middle, np.add.reduceat(total, starts), moments
