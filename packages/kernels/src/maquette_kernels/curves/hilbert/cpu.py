"""Hilbert codes on a CPU: Skilling's turns without branches, compiled by numba.

Voxels go through in blocks, all of a block through one level before the next, so that the inner loops are
over voxels and the compiler makes vector code of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from torch import Tensor

from maquette_kernels.curves.morton.cpu import collect, decode_by, encode_by, spread

BLOCK = 512


@njit(inline="always")
def _turn(x, other, level):
    """Turn x and another axis below a level by the half that the other is in."""
    low = (np.int64(1) << level) - 1
    upper = -((other >> level) & 1)
    exchanged = (x ^ other) & low & ~upper
    return x ^ exchanged ^ (low & upper), other ^ exchanged


@njit(inline="always")
def _mirror(x, level):
    """Turn x below a level by the half that it is in itself."""
    return x ^ (((np.int64(1) << level) - 1) & -((x >> level) & 1))


@njit(inline="always")
def _from_gray(code):
    """The number that Gray's numbering writes as ``code``."""
    code ^= code >> 1
    code ^= code >> 2
    code ^= code >> 4
    code ^= code >> 8
    code ^= code >> 16
    return code ^ code >> 32


@njit(cache=True, nogil=True)
def _encode(coords, bits, codes, start, stop):
    axes = np.empty((3, BLOCK), np.int64)
    x, y, z = axes[0], axes[1], axes[2]
    last = coords.shape[1] - 1
    for begin in range(start, stop, BLOCK):
        count = min(BLOCK, stop - begin)
        for axis in range(3):
            for i in range(count):
                axes[axis, i] = coords[begin + i, last - 2 + axis] & ((np.int64(1) << bits) - 1)
        for level in range(bits - 1, -1, -1):
            for i in range(count):
                a, b = _turn(_mirror(x[i], level), y[i], level)
                a, c = _turn(a, z[i], level)
                x[i], y[i], z[i] = a, b, c
        for i in range(count):
            codes[begin + i] = _from_gray(spread(x[i]) << 2 | spread(y[i]) << 1 | spread(z[i]))
        if last == 3:
            for n in range(begin, begin + count):
                codes[n] |= np.int64(coords[n, 0]) << 3 * bits


@njit(cache=True, nogil=True)
def _decode(codes, bits, coords, start, stop):
    axes = np.empty((3, BLOCK), np.int64)
    x, y, z = axes[0], axes[1], axes[2]
    last = coords.shape[1] - 1
    for begin in range(start, stop, BLOCK):
        count = min(BLOCK, stop - begin)
        for i in range(count):
            code = codes[begin + i] & ((np.int64(1) << 3 * bits) - 1)
            gray = code ^ code >> 1
            x[i], y[i], z[i] = collect(gray >> 2), collect(gray >> 1), collect(gray)
        for level in range(bits):
            for i in range(count):
                a, c = _turn(x[i], z[i], level)
                a, b = _turn(a, y[i], level)
                x[i], y[i], z[i] = _mirror(a, level), b, c
        for axis in range(3):
            for i in range(count):
                coords[begin + i, last - 2 + axis] = axes[axis, i]
        if last == 3:
            for n in range(begin, begin + count):
                coords[n, 0] = codes[n] >> 3 * bits


def encode(coords: Tensor, bits: int) -> Tensor:
    """int64 [N]."""
    return encode_by(_encode, coords, bits)


def decode(codes: Tensor, bits: int, batched: bool) -> Tensor:
    """int32 [N, 3], or [N, 4] where ``batched``."""
    return decode_by(_decode, codes, bits, batched)
