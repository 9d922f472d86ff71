"""``farthest_points`` in Triton: one program a cloud, a pass over the cloud for each choice.

Clouds of up to RESIDENT points stay in registers with their distances; larger ones keep the distances in memory.
Products and sums are not fused, so distances, and with them the choice among near-ties, have the reference's bits.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.points.ragged import whole
from maquette_kernels.triton_support import Compilation, interpreting

_NONE = tl.constexpr(0x7FFFFFFF)
"""A number that no point has: there are fewer."""

_RESIDENT = 8192
_EXACT = {"enable_fp_fusion": False}


@triton.jit
def _coordinates(points, rows, stride, valid):
    at = points + rows.to(tl.int64) * stride
    x = tl.load(at, mask=valid, other=0).to(tl.float32)
    y = tl.load(at + 1, mask=valid, other=0).to(tl.float32)
    z = tl.load(at + 2, mask=valid, other=0).to(tl.float32)
    return x, y, z


@triton.jit
def _draw_near(points, stride, last, x, y, z, away, chosen):
    """Distances to the nearest of the chosen points once ``last`` is one; chosen points themselves have -1."""
    u, v, w = _coordinates(points, last, stride, last >= 0)
    u = x - u
    v = y - v
    w = z - w
    return tl.where(chosen, -1.0, tl.minimum(away, u * u + v * v + w * w))


@triton.jit
def resident_kernel(points, offsets, out, stride, count, start, BLOCK: tl.constexpr):
    """Clouds of at most BLOCK points."""
    cloud = tl.program_id(0).to(tl.int64)
    first = tl.load(offsets + cloud)
    size = tl.load(offsets + cloud + 1) - first
    lanes = tl.arange(0, BLOCK)
    x, y, z = _coordinates(points, first + lanes, stride, lanes < size)
    away = tl.where(lanes < size, float("inf"), -1.0)
    last = tl.minimum(start, size - 1).to(tl.int32)
    step = 0
    while step < tl.minimum(count, size):
        tl.store(out + cloud * count + step, first + last)
        away = _draw_near(points, stride, first + last, x, y, z, away, (lanes == last) | (away < 0))
        farthest = tl.max(away, 0)
        last = tl.min(tl.where(away == farthest, lanes, _NONE), 0)
        step += 1


@triton.jit
def streaming_kernel(points, offsets, away, out, stride, count, start, BLOCK: tl.constexpr):
    """Clouds of any size; ``away`` [N] begins infinite."""
    cloud = tl.program_id(0).to(tl.int64)
    first = tl.load(offsets + cloud)
    size = tl.load(offsets + cloud + 1) - first
    last = tl.minimum(start, size - 1).to(tl.int32)
    step = 0
    while step < tl.minimum(count, size):
        tl.store(out + cloud * count + step, first + last)
        best = tl.full([BLOCK], -1.0, tl.float32)
        which = tl.full([BLOCK], _NONE, tl.int32)
        begin = 0
        while begin < size:
            lanes = begin + tl.arange(0, BLOCK)
            valid = lanes < size
            x, y, z = _coordinates(points, first + lanes, stride, valid)
            # A lane reads what it wrote itself, so nothing need wait.
            near = tl.load(away + first + lanes, mask=valid, other=-1)
            near = _draw_near(points, stride, first + last, x, y, z, near, (lanes == last) | (near < 0))
            tl.store(away + first + lanes, near, mask=valid)
            further = near > best
            best = tl.where(further, near, best)
            which = tl.where(further, lanes, which)
            begin += BLOCK
        farthest = tl.max(best, 0)
        last = tl.min(tl.where(best == farthest, which, _NONE), 0)
        step += 1


def forward(points: Tensor, count: int, offsets: Tensor | None, start: int) -> Tensor:
    """Numbers of the chosen points, a row for each cloud. Reads the largest cloud's size of a ragged batch back."""
    bounds = whole(offsets, points)
    clouds = bounds.shape[0] - 1
    chosen = torch.full((clouds, count), -1, device=points.device)
    if chosen.numel() == 0 or points.shape[0] == 0:
        return chosen
    largest = points.shape[0] if offsets is None else int(bounds.diff().max())
    start = min(start, points.shape[0])
    if largest <= (64 if interpreting() else _RESIDENT):  # the interpreter is to see both
        block = triton.next_power_of_2(max(largest, 32))
        warps = min(max(block // 256, 1), 16)
        resident_kernel[(clouds,)](
            points, bounds, chosen, points.stride(0), count, start, BLOCK=block, num_warps=warps, **_EXACT
        )
        return chosen
    away = points.new_full((points.shape[0],), torch.inf)
    block = 64 if interpreting() else 8192  # and several blocks a cloud
    streaming_kernel[(clouds,)](
        points, bounds, away, chosen, points.stride(0), count, start, BLOCK=block, num_warps=16, **_EXACT
    )
    return chosen


def compilations() -> list[Compilation]:
    """Both kernels, in float32."""
    options = {"num_warps": 16, **_EXACT}
    return [
        Compilation(kernel, _types(kernel), {"BLOCK": block}, (), options)
        for kernel, block in ((resident_kernel, _RESIDENT), (streaming_kernel, 8192))
    ]


def _types(kernel: Any) -> dict[str, str]:
    known = {"points": "*fp32", "away": "*fp32", "offsets": "*i64", "out": "*i64"}
    return {name: known.get(name, "i32") for name in kernel.arg_names}
