"""Hilbert codes in Triton: Skilling's turns without branches, bits spread as for Morton codes."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.curves.morton.triton_kernels import (
    collect,
    compilations_of,
    decode_by,
    encode_by,
    load_voxels,
    spread,
    store_codes,
    store_voxels,
)
from maquette_kernels.triton_support import Compilation


@triton.jit
def _turn(x, other, level):
    """Turn x and another axis below a level by the half that the other is in."""
    low = (1 << level) - 1
    upper = -((other >> level) & 1)
    exchanged = (x ^ other) & low & ~upper
    return x ^ exchanged ^ (low & upper), other ^ exchanged


@triton.jit
def _mirror(x, level):
    """Turn x below a level by the half that it is in itself."""
    return x ^ (((1 << level) - 1) & -((x >> level) & 1))


@triton.jit
def _from_gray(code):
    """The number that Gray's numbering writes as ``code``."""
    code ^= code >> 1
    code ^= code >> 2
    code ^= code >> 4
    code ^= code >> 8
    code ^= code >> 16
    return code ^ (code >> 32)


@triton.jit
def encode_kernel(
    coords, codes, count, row, column, COLUMNS: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    x, y, z = load_voxels(coords, n, live, row, column, COLUMNS, BITS)
    # A coordinate has at most 21 bits: its turns are cheaper in int32.
    x, y, z = x.to(tl.int32), y.to(tl.int32), z.to(tl.int32)
    for step in tl.static_range(BITS):
        x = _mirror(x, BITS - 1 - step)
        x, y = _turn(x, y, BITS - 1 - step)
        x, z = _turn(x, z, BITS - 1 - step)
    code = (spread(x.to(tl.int64)) << 2) | (spread(y.to(tl.int64)) << 1) | spread(z.to(tl.int64))
    store_codes(codes, _from_gray(code), coords, n, live, row, COLUMNS, BITS)


@triton.jit
def decode_kernel(
    codes, coords, count, stride, COLUMNS: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    code = tl.load(codes + n * stride, mask=live, other=0)
    curve = code & ((1 << (3 * BITS)) - 1)
    gray = curve ^ (curve >> 1)
    x, y, z = collect(gray >> 2).to(tl.int32), collect(gray >> 1).to(tl.int32), collect(gray).to(tl.int32)
    for level in tl.static_range(BITS):
        x, z = _turn(x, z, level)
        x, y = _turn(x, y, level)
        x = _mirror(x, level)
    store_voxels(coords, x, y, z, code, n, live, COLUMNS, BITS)


def encode(coords: Tensor, bits: int) -> Tensor:
    """int64 [N]."""
    return encode_by(encode_kernel, coords, bits)


def decode(codes: Tensor, bits: int, batched: bool) -> Tensor:
    """int32 [N, 3], or [N, 4] where ``batched``."""
    return decode_by(decode_kernel, codes, bits, batched)


def compilations() -> dict[str, list[Compilation]]:
    """What to compile ahead of time, by function."""
    return compilations_of(encode_kernel, decode_kernel)
