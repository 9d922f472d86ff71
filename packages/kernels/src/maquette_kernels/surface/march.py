"""Compiled marching cubes over dense grids: which samples are inside, a bit each; counts; then the emission.

Rows along z are words of 64 bits, so that a row with nothing in it costs a few instructions, and the number
of a vertex is a sum of population counts instead of a table over the whole grid. Slabs along x are
independent of one another within each of the three passes. NumPy and numba only, so that processes that
prepare data need not import torch.
"""

# Compiled functions take all they need by position: numba knows no keyword arguments worth having in a loop.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from maquette.errors import MaquetteError
from maquette_kernels.surface import cases

_WORD = 64
_ONE = np.uint64(1)
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
_PAIRS, _QUADS, _HALVES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)
_MOST = 2**31 - 1

Slabs = Callable[[Callable[[int, int], None], int], None]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@njit(cache=True, nogil=True)
def ones(word):
    """How many bits of a word are set; LLVM knows the idiom."""
    word -= (word >> _ONE) & _PAIRS
    word = (word & _QUADS) + ((word >> np.uint64(2)) & _QUADS)
    word = (word + (word >> np.uint64(4))) & _HALVES
    return np.int64((word * _BYTES) >> np.uint64(56))


@njit(cache=True, nogil=True)
def _lowest(word):
    return word & (~word + _ONE)


@njit(cache=True, nogil=True, error_model="numpy")
def weight(a, b, level, clearance):
    """Where between two samples the level is crossed, kept `clearance` away from both; float32."""
    below = a - level
    t = below / (below - (b - level))
    if np.isnan(t):  # one of the samples is
        return np.float32(0.5)
    return min(max(t, clearance), np.float32(1.0) - clearance)


@njit(cache=True, nogil=True)
def _pack(grid, level, bits, start, stop):
    """Bit z of a row is set where sample z is inside: below the level. NaN is outside."""
    size = grid.shape[2]
    for x in range(start, stop):
        for y in range(grid.shape[1]):
            for w in range(bits.shape[2]):
                word = np.uint64(0)
                row = grid[x, y, w * _WORD : min((w + 1) * _WORD, size)]
                for k in range(len(row)):
                    word |= np.uint64(row[k] < level) << np.uint64(k)
                bits[x, y, w] = word


@njit(cache=True, nogil=True)
def _cells_of(w, size):
    """Bits of word w that stand for cells: samples with another one after them."""
    left = size - 1 - w * _WORD
    if left >= _WORD:
        return _FULL
    return (_ONE << np.uint64(max(left, 0))) - _ONE


@njit(cache=True, nogil=True)
def _after(bits, x, y, w):
    """Word w of a row, each bit that of the next sample."""
    following = bits[x, y, w + 1] if w + 1 < bits.shape[2] else np.uint64(0)
    return (bits[x, y, w] >> _ONE) | (following << np.uint64(63))


@njit(cache=True, nogil=True)
def _crossings(bits, size, x, y, w):
    """Which edges leaving the samples of a word along x, y and z are crossed."""
    here = bits[x, y, w]
    along_x = here ^ bits[x + 1, y, w] if x + 1 < bits.shape[0] else np.uint64(0)
    along_y = here ^ bits[x, y + 1, w] if y + 1 < bits.shape[1] else np.uint64(0)
    return along_x, along_y, (here ^ _after(bits, x, y, w)) & _cells_of(w, size)


@njit(cache=True, nogil=True)
def _active(bits, size, x, y, w):
    """Which cells of a word the surface passes through."""
    if x + 1 >= bits.shape[0] or y + 1 >= bits.shape[1]:
        return np.uint64(0)
    some, every = np.uint64(0), _FULL
    for dx in range(2):
        for dy in range(2):
            here, after = bits[x + dx, y + dy, w], _after(bits, x + dx, y + dy, w)
            some |= here | after
            every &= here & after
    return some & ~every & _cells_of(w, size)


@njit(cache=True, nogil=True)
def _inside(bits, x, y, z):
    return np.int64((bits[x, y, z // _WORD] >> np.uint64(z % _WORD)) & _ONE)


@njit(cache=True, nogil=True)
def _case(bits, x, y, z):
    """Which corners of a cell are inside, as a number of 8 bits."""
    case = 0
    for c in range(8):
        case |= _inside(bits, x + (c & 1), y + (c >> 1 & 1), z + (c >> 2 & 1)) << c
    return case


@njit(cache=True, nogil=True)
def _count(bits, size, counts, vertices, faces, start, stop):
    """Vertices of each word, int64 [X, Y, W], and triangles of each row of cells, int64 [X, Y]."""
    for x in range(start, stop):
        for y in range(bits.shape[1]):
            total = 0
            for w in range(bits.shape[2]):
                along_x, along_y, along_z = _crossings(bits, size, x, y, w)
                vertices[x, y, w] = ones(along_x) + ones(along_y) + ones(along_z)
                active = _active(bits, size, x, y, w)
                while active:
                    low = _lowest(active)
                    active ^= low
                    total += counts[_case(bits, x, y, w * _WORD + ones(low - _ONE))]
            faces[x, y] = total


@njit(cache=True, nogil=True)
def _number(bits, first, size, x, y, z, axis):
    """The vertex on the edge that leaves a sample along an axis, given the first vertex of each word."""
    w, low = z // _WORD, _ONE << np.uint64(z % _WORD)
    along_x, along_y, along_z = _crossings(bits, size, x, y, w)
    below = low - _ONE
    number = first[x, y, w] + ones(along_x & below) + ones(along_y & below) + ones(along_z & below)
    if axis > 0 and along_x & low:
        number += 1
    if axis > 1 and along_y & low:
        number += 1
    return number


@njit(cache=True, nogil=True)
def _place(grid, level, clearance, x, y, z, axis, vertex, edge):
    """Write one vertex, and the two samples that it lies between."""
    dx, dy, dz = axis == 0, axis == 1, axis == 2
    vertex[0], vertex[1], vertex[2] = x, y, z
    vertex[axis] += weight(grid[x, y, z], grid[x + dx, y + dy, z + dz], level, clearance)
    edge[0] = (x * grid.shape[1] + y) * grid.shape[2] + z
    edge[1] = ((x + dx) * grid.shape[1] + y + dy) * grid.shape[2] + z + dz


@njit(cache=True, nogil=True)
def _emit_vertices(grid, level, clearance, bits, first, vertices, edges, start, stop):
    size = grid.shape[2]
    for x in range(start, stop):
        for y in range(bits.shape[1]):
            for w in range(bits.shape[2]):
                crossings = _crossings(bits, size, x, y, w)
                n = first[x, y, w]
                todo = crossings[0] | crossings[1] | crossings[2]
                while todo:
                    low = _lowest(todo)
                    todo ^= low
                    z = w * _WORD + ones(low - _ONE)
                    for axis in range(3):
                        if crossings[axis] & low:
                            _place(grid, level, clearance, x, y, z, axis, vertices[n], edges[n])
                            n += 1


@njit(cache=True, nogil=True)
def _emit_faces(bits, size, first, begin, tables, faces, start, stop):
    slots, counts, corners, axes = tables
    for x in range(start, stop):
        for y in range(bits.shape[1]):
            n = begin[x, y]
            for w in range(bits.shape[2]):
                active = _active(bits, size, x, y, w)
                while active:
                    low = _lowest(active)
                    active ^= low
                    z = w * _WORD + ones(low - _ONE)
                    case = _case(bits, x, y, z)
                    for slot in range(3 * counts[case]):
                        edge = slots[case, slot]
                        c = corners[edge]
                        i, j, k = x + (c & 1), y + (c >> 1 & 1), z + (c >> 2 & 1)
                        faces[n + slot // 3, slot % 3] = _number(bits, first, size, i, j, k, axes[edge])
                    n += counts[case]


def _starts(counts: np.ndarray) -> tuple[np.ndarray, int]:
    """Where each count begins when all are laid end to end, and their sum."""
    ends = np.cumsum(counts.reshape(-1))
    return ends.reshape(counts.shape) - counts, int(ends[-1])


def in_one_run(ask: Callable[[int, int], None], count: int) -> None:
    """``ask`` for everything at once, in the calling thread."""
    ask(0, count)


def march(grid: np.ndarray, level: float, clearance: float, in_slabs: Slabs = in_one_run) -> Arrays:
    """Marching cubes of a grid; see :func:`maquette_kernels.surface.functions.marching_cubes`.

    Args:
        grid: float32 [X, Y, Z], contiguous.
        level: samples below it are inside.
        clearance: least distance of a vertex from the samples at the ends of its edge.
        in_slabs: ``in_slabs(ask, count)`` calls ``ask(start, stop)`` over runs that cover ``count`` slabs, in
            any order or at once; results do not depend on it.

    Returns:
        vertices float32 [V, 3], faces int32 [F, 3], edges int64 [V, 2] (numbers of samples).
    """
    if min(grid.shape) < 2:
        return np.empty((0, 3), np.float32), np.empty((0, 3), np.int32), np.empty((0, 2), np.int64)
    slots, counts = cases.triangles()
    level, clearance = np.float32(level), np.float32(clearance)
    slabs, rows, size = grid.shape
    bits = np.empty((slabs, rows, -(-size // _WORD)), np.uint64)
    found, triangles = np.empty(bits.shape, np.int64), np.empty((slabs, rows), np.int64)
    in_slabs(lambda start, stop: _pack(grid, level, bits, start, stop), slabs)
    in_slabs(lambda start, stop: _count(bits, size, counts, found, triangles, start, stop), slabs)
    (first, vertex_count), (begin, face_count) = _starts(found), _starts(triangles)
    if max(vertex_count, face_count) > _MOST:
        raise MaquetteError(f"marching cubes: {face_count} faces do not fit int32 indices; cut the grid into parts")
    vertices, edges = np.empty((vertex_count, 3), np.float32), np.empty((vertex_count, 2), np.int64)
    faces = np.empty((face_count, 3), np.int32)
    tables = (slots, counts, *cases.edges())

    def emit(start: int, stop: int) -> None:
        _emit_vertices(grid, level, clearance, bits, first, vertices, edges, start, stop)
        _emit_faces(bits, size, first, begin, tables, faces, start, stop)

    in_slabs(emit, slabs)
    return vertices, faces, edges
