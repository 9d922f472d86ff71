"""Compiled loops of the CPU path: pairs that meet through each tap, multiplied where they lie, nothing gathered."""

# Compiled loops take arrays by position.
# ruff: noqa: PLR0917
from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.sparse.sparse_conv3d.blocks import (
    CHANNELS,
    FEW,
    HALF,
    LANES,
    STRIP,
    TALL,
    correlate_half,
    correlate_narrow,
    correlate_wide,
    multiply_half,
    multiply_narrow,
    multiply_wide,
)

ROWS = 1024
"""Rows to work on at a time: features, gradients and sums of 64 channels stay in a cache of 1 MB."""

RUN = 64
"""Pairs of the weight's gradient to work on at a time: their rows, of 64 channels, stay in a cache of 48 KB."""

FILL = 2 * TALL
"""Pairs to follow a tap's: some to fill up the last block, and one block more for it to ask for."""


@njit(cache=True, nogil=True)
def count_pairs(neighbours):  # type: ignore[no-untyped-def]
    """Number of entries that are not -1."""
    count = 0
    for row in range(neighbours.shape[0]):
        for tap in range(neighbours.shape[1]):
            count += neighbours[row, tap] >= 0
    return count


@njit(cache=True, nogil=True)
def _list_pairs(neighbours, start, stop, lists, counts):  # type: ignore[no-untyped-def]
    """Write rows and neighbours of each tap's pairs among rows ``start:stop``, and their numbers.

    Pairs follow whose row is one beyond the last.
    """
    counts[:] = 0
    for row in range(start, stop):
        for tap in range(neighbours.shape[1]):
            source, count = neighbours[row, tap], counts[tap]
            lists[tap, 0, count], lists[tap, 1, count] = row, source
            counts[tap] = count + (source >= 0)
    for tap in range(neighbours.shape[1]):
        count = counts[tap]
        lists[tap, 0, count : count + FILL], lists[tap, 1, count : count + FILL] = len(neighbours), 0


@njit(cache=True, nogil=True)
def _multiply_pairs(source, weight, pairs, count, out):  # type: ignore[no-untyped-def]
    """``out[pairs[0]] += source[pairs[1]] @ weight``; no row occurs twice but that which fills blocks."""
    depth, width = weight.shape
    base, strip, target = source.ctypes.data, weight.ctypes.data, out.ctypes.data
    rows, index = pairs[0].ctypes.data, pairs[1].ctypes.data
    column = 0
    while column < width:
        left = width - column
        w, o = strip + 4 * column, target + 4 * column
        for p in range(0, count, TALL):
            if left >= STRIP:
                multiply_wide(weight.dtype, base, index + 4 * p, w, o, rows + 4 * p, depth, width)
            elif left >= HALF:
                multiply_half(weight.dtype, base, index + 4 * p, w, o, rows + 4 * p, depth, width)
            else:
                multiply_narrow(weight.dtype, base, index + 4 * p, w, o, rows + 4 * p, depth, width)
        column += STRIP if left >= STRIP else HALF if left >= HALF else LANES


@njit(cache=True, nogil=True)
def convolve(source, weight, neighbours, out, start, stop):  # type: ignore[no-untyped-def]
    """Add the convolution to rows ``start:stop`` of ``out``, which has one row more to spoil; columns a multiple of
    LANES.
    """
    taps = neighbours.shape[1]
    lists, counts = np.empty((taps, 2, ROWS + FILL), np.int32), np.empty(taps, np.int64)
    for first in range(start, stop, ROWS):
        _list_pairs(neighbours, first, min(first + ROWS, stop), lists, counts)
        for tap in range(taps):
            _multiply_pairs(source, weight[tap], lists[tap], counts[tap], out)


@njit(cache=True, nogil=True)
def _correlate_pairs(source, upstream, pairs, count, total):  # type: ignore[no-untyped-def]
    """``total += source[pairs[1]]^T @ upstream[pairs[0]]``."""
    depth, width = total.shape
    rows, index = pairs[0].ctypes.data, pairs[1].ctypes.data
    column = 0
    while column < width:
        left = width - column
        g, target = upstream.ctypes.data + 4 * column, total.ctypes.data + 4 * column
        for channel in range(0, depth, FEW if left >= STRIP else CHANNELS):
            base, t = source.ctypes.data + 4 * channel, target + 4 * channel * width
            if left >= STRIP:
                correlate_wide(source.dtype, base, index, g, rows, t, depth, width, count)
            elif left >= HALF:
                correlate_half(source.dtype, base, index, g, rows, t, depth, width, count)
            else:
                correlate_narrow(source.dtype, base, index, g, rows, t, depth, width, count)
        column += STRIP if left >= STRIP else HALF if left >= HALF else LANES


@njit(cache=True, nogil=True)
def correlate(source, upstream, neighbours, total, start, stop):  # type: ignore[no-untyped-def]
    """Add the weight's gradient of taps ``start:stop``; channels and columns multiples of CHANNELS and LANES."""
    map_ = neighbours[:, start:stop]
    lists, counts = np.empty((stop - start, 2, ROWS + FILL), np.int32), np.empty(stop - start, np.int64)
    for first in range(0, len(map_), ROWS):
        _list_pairs(map_, first, min(first + ROWS, len(map_)), lists, counts)
        for tap in range(stop - start):
            for p in range(0, counts[tap], RUN):
                count = min(RUN, counts[tap] - p)
                _correlate_pairs(source, upstream, lists[tap, :, p:], count, total[start + tap])


@njit(cache=True, nogil=True)
def correlate_halves(source, upstream, neighbours, total, start, stop):  # type: ignore[no-untyped-def]
    """As ``correlate``, of bfloat16 given as uint16, two pairs of rows at a time; source and upstream unpadded."""
    map_ = neighbours[:, start:stop]
    lists, counts = np.empty((stop - start, 2, ROWS + FILL), np.int32), np.empty(stop - start, np.int64)
    own, above = np.zeros((RUN, total.shape[1]), np.int32), np.zeros((RUN, total.shape[2]), np.int32)
    order = np.empty((2, RUN), np.int32)
    order[:] = np.arange(RUN)
    for first in range(0, len(map_), ROWS):
        _list_pairs(map_, first, min(first + ROWS, len(map_)), lists, counts)
        for tap in range(stop - start):
            for p in range(0, counts[tap], 2 * RUN):
                count = min(2 * RUN, counts[tap] - p)
                _join_rows(upstream, lists[tap, 0, p:], count, above)
                _join_rows(source, lists[tap, 1, p:], count, own)
                _correlate_pairs(own, above, order, (count + 1) // 2, total[start + tap])


@njit(cache=True, nogil=True)
def _join_rows(halves, rows, count, joined):  # type: ignore[no-untyped-def]
    """Rows 2i and 2i + 1 of a list, side by side in each number of row i; after an odd last one come zeros."""
    width = halves.shape[1]
    for p in range(0, count - 1, 2):
        low, high, target = halves[rows[p]], halves[rows[p + 1]], joined[p // 2]
        for channel in range(width):
            target[channel] = np.int32(low[channel]) | (np.int32(high[channel]) << 16)
    if count % 2:
        joined[count // 2, :width] = halves[rows[count - 1]]


@njit(cache=True, nogil=True)
def gather_taps(source, neighbours, first, buffer, start, stop):  # type: ignore[no-untyped-def]
    """Row i of the buffer: the neighbours of row ``first + i`` side by side, zeros for those that are absent.

    Rows are moved as whole numbers of their elements' size, so this serves every floating-point type.
    """
    width = source.shape[1]
    for i in range(start, stop):
        for tap in range(neighbours.shape[1]):
            row = neighbours[first + i, tap]
            if row >= 0:
                for channel in range(width):
                    buffer[i, tap * width + channel] = source[row, channel]
            else:
                for channel in range(width):
                    buffer[i, tap * width + channel] = 0
