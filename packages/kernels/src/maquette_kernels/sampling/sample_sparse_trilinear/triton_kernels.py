"""``sample_sparse_trilinear`` in Triton: corners found by binary search in the sorted keys of the voxels.

z has the lowest bits of a key, so that the two corners that differ in z only stand next to each other: four
searches find eight corners.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.sampling import taps_triton
from maquette_kernels.sampling.sample_sparse_trilinear.reference import BATCHES, LIMIT
from maquette_kernels.triton_support import Compilation, interpreting

BLOCK = 128
MOST_BATCHES = tl.constexpr(BATCHES)
FURTHEST = tl.constexpr(LIMIT)


@triton.jit
def _axis(points, p, live, row):
    """Lowest corner of the cells on one axis, whether they count, and the weights of both their ends."""
    value = tl.load(points + p * row, mask=live, other=0.0)
    inside = live & (tl.abs(value) < FURTHEST)
    value = tl.where(inside, value, 0.0)
    base = tl.floor(value)
    return base.to(tl.int32), inside, (base + 1 - value)[:, None], (value - base)[:, None]


@triton.jit
def _rank(keys, wanted, live, count, STEPS: tl.constexpr):
    """How many of the sorted keys are smaller than each one wanted."""
    rank = tl.zeros_like(wanted)
    for step in tl.static_range(STEPS):
        further = rank + (1 << (STEPS - 1 - step))
        key = tl.load(keys + further - 1, mask=live & (further <= count), other=0x7FFFFFFFFFFFFFFF)
        rank = tl.where(key < wanted, further, rank)
    return rank


@triton.jit
def _voxel(keys, order, rank, wanted, live, count):
    """Number of the voxel with the key wanted if it is the one of that rank, else -1."""
    live = live & (rank < count)
    same = live & (tl.load(keys + rank, mask=live, other=-1) == wanted)
    return tl.where(same, tl.load(order + rank, mask=same, other=-1).to(tl.int32), -1)


@triton.jit
def _normalised(low_weight, high_weight):
    """Weights of a point's corners divided by their sum, where there is one."""
    total = tl.sum(low_weight + high_weight, 1)[:, None]
    safe = tl.where(total > 0, total, 1.0)
    return low_weight / safe, high_weight / safe


@triton.jit
def locate_kernel(
    points, batch, keys, order, index, weights, samples, count, row, column,
    BATCHED: tl.constexpr, RENORMALISE: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = p < samples
    x, x_inside, x_low, x_high = _axis(points, p, live, row)
    y, y_inside, y_low, y_high = _axis(points + column, p, live, row)
    z, z_inside, z_low, z_high = _axis(points + 2 * column, p, live, row)
    element = x.to(tl.int64) * 0
    if BATCHED:
        element = tl.load(batch + p, mask=live, other=0).to(tl.int64)
    inside = x_inside & y_inside & z_inside & (element >= 0) & (element < MOST_BATCHES)
    pair = tl.arange(0, 4)[None, :]
    u = (x[:, None] + (pair >> 1) + 32768).to(tl.int64)
    v = (y[:, None] + (pair & 1) + 32768).to(tl.int64)
    key = (((element[:, None] << 16 | u) << 16) | v) << 16 | (z + 32768).to(tl.int64)[:, None]
    searched = inside[:, None] & (pair < 4)
    rank = _rank(keys, key, searched, count, STEPS)
    lower = _voxel(keys, order, rank, key, searched, count)
    upper = _voxel(keys, order, rank + (lower >= 0), key + 1, searched, count)
    share = tl.where(pair >= 2, x_high, x_low) * tl.where(pair % 2 == 1, y_high, y_low)
    low_weight = tl.where(lower >= 0, share * z_low, 0.0)
    high_weight = tl.where(upper >= 0, share * z_high, 0.0)
    if RENORMALISE:
        low_weight, high_weight = _normalised(low_weight, high_weight)
    place = (p * 8)[:, None] + 2 * pair
    mask = live[:, None] & (pair < 4)
    tl.store(index + place, lower, mask=mask)
    tl.store(index + place + 1, upper, mask=mask)
    tl.store(weights + place, low_weight, mask=mask)
    tl.store(weights + place + 1, high_weight, mask=mask)


@triton.jit
def pull_kernel(
    points, index, dots, out, samples, row, column, RENORMALISE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = p < samples
    _x, _, x_low, x_high = _axis(points, p, live, row)
    _y, _, y_low, y_high = _axis(points + column, p, live, row)
    _z, _, z_low, z_high = _axis(points + 2 * column, p, live, row)
    corner = tl.arange(0, 8)[None, :]
    place = (p * 8)[:, None] + corner
    mask = live[:, None] & (corner < 8)
    there = tl.load(index + place, mask=mask, other=-1) >= 0
    share = tl.where(there, tl.load(dots + place, mask=mask, other=0.0), 0.0)
    x_upper, y_upper, z_upper = corner >= 4, corner // 2 % 2 == 1, corner % 2 == 1
    kind = dots.dtype.element_ty
    x = tl.where(x_upper, x_high, x_low).to(kind)
    y = tl.where(y_upper, y_high, y_low).to(kind)
    z = tl.where(z_upper, z_high, z_low).to(kind)
    if RENORMALISE:
        weight = tl.where(there, x * y * z, 0.0)
        total = tl.sum(weight, 1)[:, None]
        safe = tl.where(total > 0, total, 1.0)
        mean = tl.sum(weight / safe * share, 1)[:, None]
        share = tl.where(there & (total > 0), (share - mean) / safe, 0.0)
    tl.store(out + p * 3, tl.sum(tl.where(x_upper, share, -share) * y * z, 1), mask=live)
    tl.store(out + p * 3 + 1, tl.sum(tl.where(y_upper, share, -share) * x * z, 1), mask=live)
    tl.store(out + p * 3 + 2, tl.sum(tl.where(z_upper, share, -share) * x * y, 1), mask=live)


def forward(
    features: Tensor, coords: Tensor, points: Tensor, batch: Tensor | None, renormalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Features at points, then the corners' voxels and weights."""
    samples, count = len(points), len(coords)
    index = points.new_empty((samples, 8), dtype=torch.int32)
    weights = points.new_empty((samples, 8), dtype=torch.float32)
    if samples:
        keys, order = torch.sort(_keys(coords))
        locate_kernel[(triton.cdiv(samples, _block()),)](
            points, points if batch is None else batch.contiguous(), keys, order, index, weights,
            samples, count, *points.stride(),
            BATCHED=batch is not None, RENORMALISE=renormalise, STEPS=count.bit_length(), BLOCK=_block(),
        )  # fmt: skip
    return taps_triton.gather(features, index, weights), index, weights


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor]:
    """Gradients of features and points."""
    features, _, points, _, renormalise = arguments
    index, weights = residuals
    above = gradients[0]
    assert above is not None  # of the only output
    pulled = points.new_empty(points.shape)
    if len(points):
        # A small total divides differences of products that are nearly equal.
        dots = taps_triton.dots(features, index, above, torch.float64 if renormalise else torch.float32)
        pull_kernel[(triton.cdiv(len(points), _block()),)](
            points, index, dots, pulled, len(points), *points.stride(), RENORMALISE=renormalise, BLOCK=_block()
        )
    return taps_triton.scatter(above, index, weights, len(features)), pulled


def _block() -> int:
    return 64 if interpreting() else BLOCK


def _keys(coords: Tensor) -> Tensor:
    """One number a voxel, in the order of batch, x, y, z; -1, which no corner has, for one out of bounds."""
    element, *sides = coords.long().unbind(1)
    key, known = element, (element >= 0) & (element < BATCHES)
    for side in sides:
        shifted = side + LIMIT + 1
        key, known = key << 16 | shifted, known & (shifted >= 0) & (shifted < 1 << 16)
    return torch.where(known, key, -1)


def compilations() -> list[Compilation]:
    """Search among up to 2^20 voxels with a batch index, with and without renormalising, and what follows."""
    known = {"points": "*fp32", "batch": "*i32", "keys": "*i64", "order": "*i64", "index": "*i32"}
    known |= {"weights": "*fp32", "dots": "*fp32", "out": "*fp32"}
    compiled = list(taps_triton.compilations(8, ("*bf16", "*fp32")))
    for renormalise in (False, True):
        sizes = {"RENORMALISE": renormalise, "BLOCK": BLOCK}
        for kernel, more in ((locate_kernel, {"BATCHED": True, "STEPS": 20}), (pull_kernel, {})):
            types = {name: known.get(name, "i32") for name in kernel.arg_names}
            if renormalise and "dots" in types:
                types["dots"] = "*fp64"
            compiled.append(Compilation(kernel, types, {**sizes, **more}))
    return compiled
