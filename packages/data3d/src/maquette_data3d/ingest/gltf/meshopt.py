"""Decoding meshopt-packed buffer views (EXT_meshopt_compression, Khronos, appendices A and B)."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numba import njit

from maquette.errors import MaquetteError
from maquette_data3d.ingest.gltf.meshopt_filters import unfiltered

_ATTRIBUTES, _TRIANGLES, _INDICES = 0xA0, 0xE1, 0xD1
_GROUP = 16
# Places in the state of the triangle codec: next new index, last explicit one, heads of the rings of edges and of
# vertices, the end of the data, and the ring of vertices itself.
_NEXT, _LAST, _EDGES, _HEAD, _END, _VERTICES = 0, 1, 2, 3, 4, 5


def decode(content: bytes, count: int, stride: int, mode: str, filtered: str = "NONE") -> bytes:
    """The `count * stride` bytes of a packed view.

    Raises:
        MaquetteError: "unreadable: ..." for a broken stream, "unsupported: ..." for another version of the codec.
    """
    stream = np.frombuffer(content, np.uint8)
    if mode == "ATTRIBUTES":
        if count < 0 or stride <= 0 or stride % 4 or stride > 256:
            raise MaquetteError(f"unreadable: packed attributes of {stride} bytes each")
        _version(stream, _ATTRIBUTES)
        out = np.empty((count, stride), np.uint8)
        _finished(_attributes(stream, out))
        return unfiltered(out, filtered).tobytes()
    if stride not in (2, 4) or count < 0 or (mode == "TRIANGLES" and count % 3):
        raise MaquetteError(f"unreadable: {count} packed indices of {stride} bytes")
    index = np.empty(count, np.uint32)
    if mode == "TRIANGLES":
        _version(stream, _TRIANGLES)
        _finished(_triangles(stream, index))
    elif mode == "INDICES":
        _version(stream, _INDICES)
        _finished(_sequence(stream, index))
    else:
        raise MaquetteError(f"unsupported: the packing mode {mode[:20]!r}")
    return index.astype("<u2" if stride == 2 else "<u4").tobytes()


def warm_up() -> None:
    """Compiles or loads the decoders: a confined process could not keep what it compiles."""
    for mode, mark in (("ATTRIBUTES", _ATTRIBUTES), ("TRIANGLES", _TRIANGLES), ("INDICES", _INDICES)):
        with suppress(MaquetteError):
            decode(bytes([mark]), 3, 4, mode)


def _version(stream: np.ndarray, wanted: int) -> None:
    if not len(stream) or stream[0] & 0xF0 != wanted & 0xF0:
        raise MaquetteError("unreadable: a packed buffer view starts with another mark")
    if stream[0] != wanted:
        raise MaquetteError(f"unsupported: version {stream[0] & 15} of the packing of buffer views")


def _finished(complete: bool) -> None:
    if not complete:
        raise MaquetteError("unreadable: a packed buffer view does not decode")


@njit(cache=True)
def _attributes(stream: np.ndarray, out: np.ndarray) -> bool:
    count, stride = out.shape
    tail = max(stride, 32)
    if len(stream) < 1 + tail:
        return False
    previous = stream[len(stream) - stride :].copy()
    end = len(stream) - tail
    block = min((8192 // stride) & ~15, 256)
    at = 1
    deltas = np.zeros(256, np.uint8)
    for start in range(0, count, block):
        rows = min(block, count - start)
        for byte in range(stride):
            at = _deltas(stream, at, end, deltas, (rows + _GROUP - 1) // _GROUP)
            if at < 0:
                return False
            value = previous[byte]
            for row in range(rows):
                code = deltas[row]
                step = (code >> 1) ^ (0xFF if code & 1 else 0)
                value = np.uint8((value + step) & 0xFF)
                out[start + row, byte] = value
            previous[byte] = value
    return at == end


@njit(cache=True)
def _deltas(stream: np.ndarray, at: int, end: int, deltas: np.ndarray, groups: int) -> int:
    """Codes of up to 16 groups; the place behind them, -1 where the stream ends before."""
    header = at
    at += (groups + 3) // 4
    if at > end:
        return -1
    for group in range(groups):
        kind = (stream[header + group // 4] >> (group % 4 * 2)) & 3
        first = group * _GROUP
        if kind == 0:
            deltas[first : first + _GROUP] = 0
            continue
        bits = 8 if kind == 3 else kind * 2
        packed = at
        at += bits * 2
        if at > end:
            return -1
        sentinel = (1 << bits) - 1
        for i in range(_GROUP):
            bit = i * bits
            code = (stream[packed + bit // 8] >> (8 - bits - bit % 8)) & sentinel
            if kind != 3 and code == sentinel:
                if at >= end:
                    return -1
                code = stream[at]
                at += 1
            deltas[first + i] = code
    return at


@njit(cache=True)
def _varint(stream: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most 32 bits and the place behind it, -1 where it does not end."""
    value = 0
    for i in range(5):
        if at + i >= end:
            return 0, -1
        byte = np.int64(stream[at + i])
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & 0xFFFFFFFF, at + i + 1
    return 0, -1


@njit(cache=True)
def _sequence(stream: np.ndarray, index: np.ndarray) -> bool:
    end = len(stream) - 4
    last = np.zeros(2, np.int64)
    at = 1
    for i in range(len(index)):
        value, at = _varint(stream, at, end)
        if at < 0:
            return False
        half = value >> 2
        which = value & 1
        last[which] = (last[which] + (~half if value & 2 else half)) & 0xFFFFFFFF
        index[i] = last[which]
    return at == end


@njit(cache=True)
def _triangles(stream: np.ndarray, index: np.ndarray) -> bool:
    faces = len(index) // 3
    state = np.zeros(_VERTICES + 16, np.int64)
    state[_END] = len(stream) - 16
    edges = np.zeros((16, 2), np.int64)
    at = 1 + faces
    if at > state[_END]:
        return False
    for face in range(faces):
        code = np.int64(stream[1 + face])
        if code >> 4 < 15:
            slot = (state[_EDGES] - 1 - (code >> 4)) & 15
            a, b = edges[slot]
            c, at = _attached(stream, at, code & 15, state)
        else:
            a, b, c, at = _loose(stream, at, code & 15, state)
            _link(edges, state, b, a)
        if at < 0:
            return False
        _link(edges, state, c, b)
        _link(edges, state, a, c)
        index[3 * face] = a & 0xFFFFFFFF
        index[3 * face + 1] = b & 0xFFFFFFFF
        index[3 * face + 2] = c & 0xFFFFFFFF
    return at == state[_END]


@njit(cache=True)
def _attached(stream: np.ndarray, at: int, low: int, state: np.ndarray) -> tuple[int, int]:
    """The third corner of a triangle on a recent edge, and the place behind what it read."""
    if 0 < low < 13:
        return _recent(state, low), at
    if low == 0:
        vertex = _next(state)
    elif low < 15:
        vertex = state[_LAST] + (1 if low == 14 else -1)
        state[_LAST] = vertex
    else:
        at = _explicit(stream, at, state)
        vertex = state[_LAST]
    _remember(state, vertex)
    return vertex, at


@njit(cache=True)
def _loose(stream: np.ndarray, at: int, low: int, state: np.ndarray) -> tuple[int, int, int, int]:
    """All corners of a triangle without a recent edge, and the place behind what it read."""
    if low < 14:
        pair = np.int64(stream[state[_END] + low])  # the table at the stream's end
    elif at >= state[_END]:
        return 0, 0, 0, -1
    else:
        pair = np.int64(stream[at])
        at += 1
        if pair == 0:
            state[_NEXT] = 0
    if low == 15:
        at = _explicit(stream, at, state)
        a = state[_LAST]
    else:
        a = _next(state)
    b, at = _corner(stream, at, pair >> 4, low, state)
    c, at = _corner(stream, at, pair & 15, low, state)
    _remember(state, a)
    if pair >> 4 in (0, 15):
        _remember(state, b)
    if pair & 15 in (0, 15):
        _remember(state, c)
    return a, b, c, at


@njit(cache=True)
def _corner(stream: np.ndarray, at: int, kind: int, low: int, state: np.ndarray) -> tuple[int, int]:
    """Second or third corner of a loose triangle: new, recent or written out."""
    if at < 0:
        return 0, -1
    if kind == 0:
        return _next(state), at
    if kind == 15 and low >= 14:
        at = _explicit(stream, at, state)
        return state[_LAST], at
    return _recent(state, kind - 1), at


@njit(cache=True)
def _explicit(stream: np.ndarray, at: int, state: np.ndarray) -> int:
    if at < 0:
        return -1
    value, at = _varint(stream, at, state[_END])
    half = value >> 1
    state[_LAST] = (state[_LAST] + (~half if value & 1 else half)) & 0xFFFFFFFF
    return at


@njit(cache=True)
def _next(state: np.ndarray) -> int:
    state[_NEXT] += 1
    return state[_NEXT] - 1


@njit(cache=True)
def _recent(state: np.ndarray, age: int) -> int:
    return state[_VERTICES + ((state[_HEAD] - 1 - age) & 15)]


@njit(cache=True)
def _remember(state: np.ndarray, vertex: int) -> None:
    state[_VERTICES + (state[_HEAD] & 15)] = vertex
    state[_HEAD] += 1


@njit(cache=True)
def _link(edges: np.ndarray, state: np.ndarray, start: int, end: int) -> None:
    edges[state[_EDGES] & 15, 0] = start
    edges[state[_EDGES] & 15, 1] = end
    state[_EDGES] += 1
