"""Compiled loops of the CPU path: pairs that meet through each tap, multiplied where they lie, nothing gathered."""

# Compiled loops take arrays by position.
# ruff: noqa: PLR0917
from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.sparse.sparse_conv3d.blocks import (
    CHANNELS,
    LANES,
    STRIP,
    TALL,
    correlate_narrow,
    correlate_wide,
    multiply_narrow,
    multiply_wide,
)

ROWS = 1024
"""Rows to work on at a time: features, gradients and sums of 64 channels stay in a cache of 1 MB."""


@njit(cache=True, nogil=True)
def count_pairs(neighbours):  # type: ignore[no-untyped-def]
    """Number of entries that are not -1."""
    count = 0
    for row in range(neighbours.shape[0]):
        for tap in range(neighbours.shape[1]):
            count += neighbours[row, tap] >= 0
    return count


@njit(cache=True, nogil=True)
def _list_pairs(neighbours, tap, start, stop, pairs):  # type: ignore[no-untyped-def]
    """Write rows and neighbours of a tap's pairs among rows ``start:stop``; gives their number.

    To fill a block, pairs follow whose row is one beyond the last.
    """
    count = 0
    for row in range(start, stop):
        source = neighbours[row, tap]
        pairs[0, count], pairs[1, count] = row, source
        count += source >= 0
    pairs[0, count : count + TALL], pairs[1, count : count + TALL] = len(neighbours), 0
    return count


@njit(cache=True, nogil=True)
def _multiply_pairs(source, weight, pairs, count, out):  # type: ignore[no-untyped-def]
    """``out[pairs[0]] += source[pairs[1]] @ weight``; no row occurs twice but that which fills blocks."""
    depth, width = weight.shape
    base, strip, target = source.ctypes.data, weight.ctypes.data, out.ctypes.data
    rows, index = pairs[0].ctypes.data, pairs[1].ctypes.data
    column = 0
    while column < width:
        wide = column + STRIP <= width
        w, o = strip + 4 * column, target + 4 * column
        for p in range(0, count, TALL):
            if wide:
                multiply_wide(weight.dtype, base, index + 4 * p, w, o, rows + 4 * p, depth, width)
            else:
                multiply_narrow(weight.dtype, base, index + 4 * p, w, o, rows + 4 * p, depth, width)
        column += STRIP if wide else LANES


@njit(cache=True, nogil=True)
def convolve(source, weight, neighbours, out, start, stop):  # type: ignore[no-untyped-def]
    """Add the convolution to rows ``start:stop`` of ``out``, which has one row more to spoil; columns a multiple of
    LANES.
    """
    pairs = np.empty((2, ROWS + TALL), np.int32)
    for first in range(start, stop, ROWS):
        last = min(first + ROWS, stop)
        for tap in range(weight.shape[0]):
            count = _list_pairs(neighbours, tap, first, last, pairs)
            _multiply_pairs(source, weight[tap], pairs, count, out)


@njit(cache=True, nogil=True)
def _correlate_pairs(source, upstream, pairs, count, total):  # type: ignore[no-untyped-def]
    """``total += source[pairs[1]]^T @ upstream[pairs[0]]``."""
    depth, width = total.shape
    rows, index = pairs[0].ctypes.data, pairs[1].ctypes.data
    for channel in range(0, depth, CHANNELS):
        base, target = source.ctypes.data + 4 * channel, total.ctypes.data + 4 * channel * width
        column = 0
        while column < width:
            g, t = upstream.ctypes.data + 4 * column, target + 4 * column
            if column + STRIP <= width:
                correlate_wide(source.dtype, base, index, g, rows, t, depth, width, count)
                column += STRIP
            else:
                correlate_narrow(source.dtype, base, index, g, rows, t, depth, width, count)
                column += LANES


@njit(cache=True, nogil=True)
def correlate(source, upstream, neighbours, total, start, stop):  # type: ignore[no-untyped-def]
    """Add the weight's gradient of taps ``start:stop``; channels and columns multiples of CHANNELS and LANES."""
    pairs = np.empty((2, ROWS + TALL), np.int32)
    for first in range(0, len(neighbours), ROWS):
        last = min(first + ROWS, len(neighbours))
        for tap in range(start, stop):
            count = _list_pairs(neighbours, tap, first, last, pairs)
            _correlate_pairs(source, upstream, pairs, count, total[tap])


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
