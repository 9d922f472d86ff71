"""Sums gradients of vertices into samples, in Triton: six launches without collisions instead of atomics."""

# Kernels take all arguments by position, as Triton's launcher does.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.triton_support import Compilation, interpreting

_BLOCK = 2048 if interpreting() else 256


@triton.jit
def _add(values, edges, axes, above, total, count, level, low, high, number, END: tl.constexpr, BLOCK: tl.constexpr):
    """Add what the vertices on edges along one axis give to the sample at one end; each sample has one such edge."""
    vertex = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    axis = tl.load(axes + vertex, mask=vertex < count, other=-1)
    mine = axis == number
    first = tl.load(edges + 2 * vertex, mask=mine, other=0)
    second = tl.load(edges + 2 * vertex + 1, mask=mine, other=0)
    a = tl.load(values + first, mask=mine, other=0.0) - level
    b = tl.load(values + second, mask=mine, other=1.0) - level
    upstream = tl.load(above + 3 * vertex + number, mask=mine, other=0.0)
    span = a - b
    t = tl.div_rn(a, span)
    free = mine & (t >= low) & (t <= high)
    slope = tl.where(free, upstream / (span * span), 0.0)
    if END == 0:
        tl.store(total + first, tl.load(total + first, mask=mine) - b * slope, mask=mine)
    else:
        tl.store(total + second, tl.load(total + second, mask=mine) + a * slope, mask=mine)


def sums(values: Tensor, edges: Tensor, axis: Tensor, place: tuple[float, float], above: Tensor) -> Tensor:
    """As :func:`maquette_kernels.surface.scatter.sums`."""
    level, clearance = place
    values, above, total = values.contiguous(), above.contiguous(), torch.zeros_like(values)
    programs = (triton.cdiv(len(edges), _BLOCK),)
    for end in range(2):
        for number in range(3):
            _add[programs](
                values, edges, axis, above, total, len(edges), level, clearance, 1 - clearance, number,
                END=end, BLOCK=_BLOCK,
            )  # fmt: skip
    return total


def compilations() -> list[Compilation]:
    """Both ends."""
    types = {"values": "*fp32", "edges": "*i64", "axes": "*i64", "above": "*fp32", "total": "*fp32", "count": "i32"}
    types |= {"level": "fp32", "low": "fp32", "high": "fp32", "number": "i32"}
    return [Compilation(_add, types, {"END": end, "BLOCK": 256}) for end in range(2)]
