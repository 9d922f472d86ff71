"""Morton codes on a CPU: bits spread by shifts and masks, compiled by numba."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.threads import in_chunks

CHUNK = 1 << 16


@njit(inline="always")
def spread(v):
    """The lowest 21 bits of an int64, two zeros after each."""
    v &= 0x1FFFFF
    v = (v | v << 32) & 0x001F00000000FFFF
    v = (v | v << 16) & 0x001F0000FF0000FF
    v = (v | v << 8) & 0x100F00F00F00F00F
    v = (v | v << 4) & 0x10C30C30C30C30C3
    return (v | v << 2) & 0x1249249249249249


@njit(inline="always")
def collect(v):
    """Every third bit of an int64, 21 in all: the inverse of :func:`spread`."""
    v &= 0x1249249249249249
    v = (v | v >> 2) & 0x10C30C30C30C30C3
    v = (v | v >> 4) & 0x100F00F00F00F00F
    v = (v | v >> 8) & 0x001F0000FF0000FF
    v = (v | v >> 16) & 0x001F00000000FFFF
    return (v | v >> 32) & 0x1FFFFF


@njit(cache=True, nogil=True)
def _encode(coords, bits, codes, start, stop):
    low = (np.int64(1) << bits) - 1
    last = coords.shape[1] - 1
    for n in range(start, stop):
        x, y, z = coords[n, last - 2] & low, coords[n, last - 1] & low, coords[n, last] & low
        code = spread(x) | spread(y) << 1 | spread(z) << 2
        if last == 3:
            code |= np.int64(coords[n, 0]) << 3 * bits
        codes[n] = code


@njit(cache=True, nogil=True)
def _decode(codes, bits, coords, start, stop):
    low = (np.int64(1) << bits) - 1
    last = coords.shape[1] - 1
    for n in range(start, stop):
        code = codes[n]
        coords[n, last - 2] = collect(code) & low
        coords[n, last - 1] = collect(code >> 1) & low
        coords[n, last] = collect(code >> 2) & low
        if last == 3:
            coords[n, 0] = code >> 3 * bits


def encode(coords: Tensor, bits: int) -> Tensor:
    """int64 [N]."""
    return encode_by(_encode, coords, bits)


def decode(codes: Tensor, bits: int, batched: bool) -> Tensor:
    """int32 [N, 3], or [N, 4] where ``batched``."""
    return decode_by(_decode, codes, bits, batched)


def encode_by(kernel, coords: Tensor, bits: int) -> Tensor:
    """Run a compiled encoder over all rows."""
    codes = torch.empty(coords.shape[0], dtype=torch.int64)
    rows, out = coords.to(torch.int32).contiguous().numpy(), codes.numpy()
    in_chunks(lambda start, stop: kernel(rows, bits, out, start, stop), coords.shape[0], CHUNK)
    return codes


def decode_by(kernel, codes: Tensor, bits: int, batched: bool) -> Tensor:
    """Run a compiled decoder over all codes."""
    coords = torch.empty((codes.shape[0], 4 if batched else 3), dtype=torch.int32)
    given, out = codes.contiguous().numpy(), coords.numpy()
    in_chunks(lambda start, stop: kernel(given, bits, out, start, stop), codes.shape[0], CHUNK)
    return coords
