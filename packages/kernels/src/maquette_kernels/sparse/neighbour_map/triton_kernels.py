"""``neighbour_map`` in Triton: one binary search for each run of taps along z, then short steps.

torch sorts the packed coordinates; a program then looks up ROWS voxels at all COLUMNS (x, y) offsets at once.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.sparse.keys import pack
from maquette_kernels.triton_support import Compilation, tile

HALF = tl.constexpr(1 << 15)
FULL = tl.constexpr(1 << 16)


@triton.jit
def _field(queries, row, live, axis: tl.constexpr, stride, size, dilation):
    value = tl.load(queries + row * 4 + axis, mask=live, other=0).to(tl.int64)
    return value * stride - ((size - 1) // 2) * dilation + HALF


@triton.jit
def _not_below(keys, count, target, STEPS: tl.constexpr):
    """Number of keys below ``target``, by bisection."""
    low = tl.zeros_like(target)
    high = low + count
    for _ in tl.static_range(STEPS):
        middle = (low + high) // 2
        below = tl.load(keys + middle, mask=middle < high, other=0) < target
        open_ = low < high
        low = tl.where(open_ & below, middle + 1, low)
        high = tl.where(open_ & ~below, middle, high)
    return low


@triton.jit
def map_kernel(
    keys, index, queries, out, count, rows, kx, ky, stride, dilation,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, KZ: tl.constexpr, STEPS: tl.constexpr, GAP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    live = row < rows
    batch = tl.load(queries + row * 4, mask=live, other=0).to(tl.int64)
    x = _field(queries, row, live, 1, stride, kx, dilation)[:, None] + (column // ky * dilation)[None, :]
    y = _field(queries, row, live, 2, stride, ky, dilation)[:, None] + (column % ky * dilation)[None, :]
    z = _field(queries, row, live, 3, stride, KZ, dilation)[:, None] + tl.zeros_like(x)
    mask = live[:, None] & (column < kx * ky)[None, :]
    # A field must not overflow into the next.
    inside = mask & (x >= 0) & (x < FULL) & (y >= 0) & (y < FULL)
    base = (((batch[:, None] << 16) + x) * FULL + y) * FULL
    place = _not_below(keys, count, base + tl.minimum(tl.maximum(z, 0), FULL - 1), STEPS)
    target = out + row[:, None] * (kx * ky * KZ) + (column * KZ)[None, :]
    for k in tl.static_range(KZ):
        wanted = base + z
        for _ in tl.static_range(GAP if k else 0):  # fewer than GAP voxels lie between two taps
            here = tl.load(keys + place, mask=inside & (place < count), other=wanted)
            place += (here < wanted).to(tl.int64)
        found = inside & (place < count) & (z >= 0) & (z < FULL)
        here = tl.load(keys + place, mask=found, other=-1)
        hit = found & (here == wanted)
        tl.store(target + k, tl.load(index + place, mask=hit, other=-1).to(tl.int32), mask=mask)
        z += dilation


def forward(coords: Tensor, queries: Tensor | None, kx: int, ky: int, kz: int, stride: int, dilation: int) -> Tensor:
    """The map, int32 [M, V]."""
    keys, index = pack(coords).sort(stable=True)
    asked = (coords if queries is None else queries).contiguous()
    out = torch.empty(asked.shape[0], kx * ky * kz, dtype=torch.int32, device=coords.device)
    if out.numel():
        columns = triton.next_power_of_2(kx * ky)
        rows = tile(columns, limit=512)
        map_kernel[(triton.cdiv(asked.shape[0], rows),)](
            keys, index, asked, out, coords.shape[0], asked.shape[0], kx, ky, stride, dilation,
            ROWS=rows, COLUMNS=columns, KZ=kz, STEPS=coords.shape[0].bit_length(), GAP=dilation,
        )  # fmt: skip
    return out


def compilations() -> list[Compilation]:
    """Kernels of 3^3 and 2^3 taps over a million voxels."""
    types = {"keys": "*i64", "index": "*i64", "queries": "*i32", "out": "*i32"}
    types |= dict.fromkeys(["count", "rows", "kx", "ky", "stride", "dilation"], "i32")
    return [
        Compilation(map_kernel, types, {"ROWS": 32, "COLUMNS": columns, "KZ": kz, "STEPS": 20, "GAP": 1})
        for columns, kz in ((16, 3), (4, 2))
    ]
