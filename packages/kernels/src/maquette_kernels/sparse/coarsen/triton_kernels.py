"""``coarsen`` in Triton: pack parents, sort (torch's), number unequal ones by a running sum (torch's), write."""

# Triton kernels take pointers and sizes by position.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.triton_support import Compilation, interpreting

HALF = tl.constexpr(1 << 15)
_TYPES = {"coords": "*i32", "keys": "*i64", "octant": "*i32", "order": "*i64", "number": "*i64", "count": "i32"}


@triton.jit
def halve_kernel(coords, keys, octant, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < count
    key = tl.load(coords + place * 4, mask=mask, other=0).to(tl.int64)
    bits = tl.zeros((BLOCK,), tl.int32)
    for axis in tl.static_range(1, 4):
        value = tl.load(coords + place * 4 + axis, mask=mask, other=0)
        key = (key << 16) + (value >> 1) + HALF
        bits = 2 * bits + (value & 1)
    tl.store(keys + place, key, mask=mask)
    tl.store(octant + place, bits, mask=mask)


@triton.jit
def write_kernel(keys, order, number, coarse, parent, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < count
    mine = tl.load(number + place, mask=mask, other=0) - 1
    tl.store(parent + tl.load(order + place, mask=mask, other=0), mine.to(tl.int32), mask=mask)
    key = tl.load(keys + place, mask=mask, other=0)
    first = mask & (mine != tl.load(number + place - 1, mask=mask & (place > 0), other=0) - 1)
    tl.store(coarse + mine * 4, (key >> 48).to(tl.int32), mask=first)
    for axis in tl.static_range(1, 4):
        value = ((key >> (48 - 16 * axis)) & 0xFFFF) - HALF
        tl.store(coarse + mine * 4 + axis, value.to(tl.int32), mask=first)


def forward(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse voxels, parents and octants."""
    coords, count = coords.contiguous(), coords.shape[0]
    octant, parent = coords.new_empty(count), coords.new_empty(count)
    if not count:
        return coords.new_empty(0, 4), parent, octant
    keys = torch.empty(count, dtype=torch.int64, device=coords.device)
    block = 4096 if interpreting() else 1024
    grid = (triton.cdiv(count, block),)
    halve_kernel[grid](coords, keys, octant, count, BLOCK=block)
    keys, order = keys.sort(stable=True)
    number = torch.ones_like(keys)
    number[1:] = keys[1:] != keys[:-1]
    number = number.cumsum(0)
    coarse = coords.new_empty(int(number[-1]), 4)
    write_kernel[grid](keys, order, number, coarse, parent, count, BLOCK=block)
    return coarse, parent, octant


def compilations() -> list[Compilation]:
    """Both kernels."""
    types = _TYPES | {"coarse": "*i32", "parent": "*i32"}
    return [
        Compilation(kernel, {n: types[n] for n in kernel.arg_names if n in types}, {"BLOCK": 1024})
        for kernel in (halve_kernel, write_kernel)
    ]
