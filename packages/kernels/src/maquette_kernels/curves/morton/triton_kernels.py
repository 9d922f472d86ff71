"""Morton codes in Triton: bits spread by shifts and masks."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.triton_support import Compilation

BLOCK = 512
"""Voxels that one program handles."""


@triton.jit
def spread(v):
    """The lowest 21 bits of an int64, two zeros after each."""
    v &= 0x1FFFFF
    v = (v | (v << 32)) & 0x001F00000000FFFF
    v = (v | (v << 16)) & 0x001F0000FF0000FF
    v = (v | (v << 8)) & 0x100F00F00F00F00F
    v = (v | (v << 4)) & 0x10C30C30C30C30C3
    return (v | (v << 2)) & 0x1249249249249249


@triton.jit
def collect(v):
    """Every third bit of an int64, 21 in all: the inverse of ``spread``."""
    v &= 0x1249249249249249
    v = (v | (v >> 2)) & 0x10C30C30C30C30C3
    v = (v | (v >> 4)) & 0x100F00F00F00F00F
    v = (v | (v >> 8)) & 0x001F0000FF0000FF
    v = (v | (v >> 16)) & 0x001F00000000FFFF
    return (v | (v >> 32)) & 0x1FFFFF


@triton.jit
def load_voxels(coords, n, live, row, column, COLUMNS: tl.constexpr, BITS: tl.constexpr):
    """x, y and z, cut to their bits, as int64."""
    place = coords + n * row + (COLUMNS - 3) * column
    low: tl.constexpr = (1 << BITS) - 1
    x = tl.load(place, mask=live, other=0).to(tl.int64) & low
    y = tl.load(place + column, mask=live, other=0).to(tl.int64) & low
    z = tl.load(place + 2 * column, mask=live, other=0).to(tl.int64) & low
    return x, y, z


@triton.jit
def store_codes(codes, code, coords, n, live, row, COLUMNS: tl.constexpr, BITS: tl.constexpr):
    """The codes, below the batch index where there is one."""
    if COLUMNS == 4:
        code |= tl.load(coords + n * row, mask=live, other=0).to(tl.int64) << (3 * BITS)
    tl.store(codes + n, code, mask=live)


@triton.jit
def store_voxels(coords, x, y, z, code, n, live, COLUMNS: tl.constexpr, BITS: tl.constexpr):
    """x, y and z, behind the batch index where there is one."""
    place = coords + n * COLUMNS + (COLUMNS - 3)
    tl.store(place, x.to(tl.int32), mask=live)
    tl.store(place + 1, y.to(tl.int32), mask=live)
    tl.store(place + 2, z.to(tl.int32), mask=live)
    if COLUMNS == 4:
        tl.store(coords + n * COLUMNS, (code >> (3 * BITS)).to(tl.int32), mask=live)


@triton.jit
def encode_kernel(
    coords, codes, count, row, column, COLUMNS: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    x, y, z = load_voxels(coords, n, live, row, column, COLUMNS, BITS)
    code = spread(x) | (spread(y) << 1) | (spread(z) << 2)
    store_codes(codes, code, coords, n, live, row, COLUMNS, BITS)


@triton.jit
def decode_kernel(
    codes, coords, count, stride, COLUMNS: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    code = tl.load(codes + n * stride, mask=live, other=0)
    low: tl.constexpr = (1 << BITS) - 1
    x, y, z = collect(code) & low, collect(code >> 1) & low, collect(code >> 2) & low
    store_voxels(coords, x, y, z, code, n, live, COLUMNS, BITS)


def encode_by(kernel: Any, coords: Tensor, bits: int) -> Tensor:
    """Run an encoding kernel over all rows."""
    count, columns = coords.shape
    codes = coords.new_empty(count, dtype=torch.int64)
    if count:
        grid = (triton.cdiv(count, BLOCK),)
        kernel[grid](coords, codes, count, *coords.stride(), COLUMNS=columns, BITS=bits, BLOCK=BLOCK)
    return codes


def decode_by(kernel: Any, codes: Tensor, bits: int, batched: bool) -> Tensor:
    """Run a decoding kernel over all codes."""
    count, columns = codes.shape[0], 4 if batched else 3
    coords = codes.new_empty((count, columns), dtype=torch.int32)
    if count:
        grid = (triton.cdiv(count, BLOCK),)
        kernel[grid](codes, coords, count, codes.stride(0), COLUMNS=columns, BITS=bits, BLOCK=BLOCK)
    return coords


def encode(coords: Tensor, bits: int) -> Tensor:
    """int64 [N]."""
    return encode_by(encode_kernel, coords, bits)


def decode(codes: Tensor, bits: int, batched: bool) -> Tensor:
    """int32 [N, 3], or [N, 4] where ``batched``."""
    return decode_by(decode_kernel, codes, bits, batched)


def compilations_of(encode_kernel: Any, decode_kernel: Any) -> dict[str, list[Compilation]]:
    """Both kernels at 16 bits beside a batch index, and at 21 without."""
    sizes = {"count": "i32", "row": "i32", "column": "i32", "stride": "i32"}
    types = {"coords": "*i32", "codes": "*i64", **sizes}
    choices = [{"COLUMNS": columns, "BITS": bits, "BLOCK": BLOCK} for columns, bits in ((4, 16), (3, 21))]
    return {
        name: [Compilation(kernel, {n: types.get(n, "") for n in kernel.arg_names}, choice) for choice in choices]
        for name, kernel in (("encode", encode_kernel), ("decode", decode_kernel))
    }


def compilations() -> dict[str, list[Compilation]]:
    """What to compile ahead of time, by function."""
    return compilations_of(encode_kernel, decode_kernel)
