"""``sparse_conv3d`` in Triton: masked implicit GEMM, with no gathered copies in memory.

Outputs are cut into tiles; given in mask order, the outputs of a tile lack nearly the same taps. A small kernel
finds which taps each tile needs, and the product runs over those only. Gradients of features run the same kernel
through the reverse map; those of the weight run over the tiles that each tap needs, in SPLITS partial sums that are
added up in a fixed order. No atomics, so repeats give equal bits.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.triton_support import Compilation, interpreting

TAP_BLOCK = 32
SPLITS = 32
"""Partial sums of the weight's gradient; a constant, so that results do not depend on the device."""


@triton.jit
def _rows_of(order, tile, rows, ORDERED: tl.constexpr, TILE: tl.constexpr):
    place = tile.to(tl.int64) * TILE + tl.arange(0, TILE)
    live = place < rows
    row = place
    if ORDERED:
        row = tl.load(order + place, mask=live, other=0).to(tl.int64)
    return row, live


@triton.jit
def flags_kernel(neighbours, order, flags, rows, taps, ORDERED: tl.constexpr, TILE: tl.constexpr, TAPS: tl.constexpr):
    tile = tl.program_id(0)
    row, live = _rows_of(order, tile, rows, ORDERED, TILE)
    tap = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    mask = live[:, None] & (tap < taps)[None, :]
    found = tl.load(neighbours + row[:, None] * taps + tap[None, :], mask=mask, other=-1)
    needed = (tl.max(found, 0) >= 0).to(tl.int8)
    tl.store(flags + tile.to(tl.int64) * taps + tap, needed, mask=tap < taps)


@triton.jit
def _dot(a, b, total, UPCAST: tl.constexpr, PRECISION: tl.constexpr):
    if UPCAST:  # the interpreter multiplies bfloat16 wrongly
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def _add_step(
    total, step, features, weight, neighbours, needed, row, live, column, taps, ci, co, f_row, w_in, w_out,
    BLOCKS: tl.constexpr, DEPTH: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add the product of one block of channels through one tap."""
    tap = tl.load(needed + step // BLOCKS).to(tl.int64)
    source = tl.load(neighbours + row * taps + tap, mask=live, other=-1).to(tl.int64)
    channel = step % BLOCKS * DEPTH + tl.arange(0, DEPTH)
    inside = channel < ci
    a = tl.load(
        features + source[:, None] * f_row + channel[None, :], mask=(source >= 0)[:, None] & inside[None, :], other=0.0
    )
    place = tap * ci * co + channel[:, None] * w_in + column[None, :] * w_out
    b = tl.load(weight + place, mask=inside[:, None] & (column < co)[None, :], other=0.0)
    return _dot(a, b, total, UPCAST, PRECISION)


@triton.jit
def conv_kernel(
    features, weight, bias, neighbours, order, needed, counts, out, rows, taps, ci, co, f_row, w_in, w_out,
    BIASED: tl.constexpr, ORDERED: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
    BLOCKS: tl.constexpr, INTERPRET: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    row, live = _rows_of(order, tile, rows, ORDERED, TILE)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    steps = tl.load(counts + tile) * BLOCKS
    needed += tile.to(tl.int64) * taps
    total = tl.zeros((TILE, WIDTH), tl.float32)
    if INTERPRET:  # it cannot count to a tensor
        step = 0
        while step < steps:
            total = _add_step(total, step, features, weight, neighbours, needed, row, live, column, taps, ci, co,
                              f_row, w_in, w_out, BLOCKS, DEPTH, True, PRECISION)  # fmt: skip
            step += 1
    else:
        for step in range(steps):
            total = _add_step(total, step, features, weight, neighbours, needed, row, live, column, taps, ci, co,
                              f_row, w_in, w_out, BLOCKS, DEPTH, False, PRECISION)  # fmt: skip
    if BIASED:
        total += tl.load(bias + column, mask=column < co, other=0.0).to(tl.float32)[None, :]
    mask = live[:, None] & (column < co)[None, :]
    tl.store(out + row[:, None] * co + column[None, :], total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _add_tile(
    total, tile, tap, features, upstream, neighbours, order, rows, taps, ci, co, f_row, channel, column,
    ORDERED: tl.constexpr, TILE: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add ``features^T @ upstream`` over a tile's pairs through one tap."""
    row, live = _rows_of(order, tile, rows, ORDERED, TILE)
    source = tl.load(neighbours + row * taps + tap, mask=live, other=-1).to(tl.int64)
    paired = source >= 0
    a = tl.load(
        features + source[None, :] * f_row + channel[:, None], mask=paired[None, :] & (channel < ci)[:, None], other=0.0
    )
    b = tl.load(
        upstream + row[:, None] * co + column[None, :], mask=paired[:, None] & (column < co)[None, :], other=0.0
    )
    return _dot(a, b, total, UPCAST, PRECISION)


@triton.jit
def weight_kernel(
    features, upstream, neighbours, order, tiles, counts, partial, rows, taps, ci, co, f_row, tile_count, columns,
    ORDERED: tl.constexpr, TILE: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr, PARTS: tl.constexpr,
    INTERPRET: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tap = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) // columns * DEPTH + tl.arange(0, DEPTH)
    column = tl.program_id(1) % columns * WIDTH + tl.arange(0, WIDTH)
    split = tl.program_id(2)
    count = tl.load(counts + tap)
    step, last = count * split // PARTS, count * (split + 1) // PARTS
    tiles += tap * tile_count
    total = tl.zeros((DEPTH, WIDTH), tl.float32)
    if INTERPRET:
        while step < last:
            total = _add_tile(total, tl.load(tiles + step), tap, features, upstream, neighbours, order, rows, taps,
                              ci, co, f_row, channel, column, ORDERED, TILE, True, PRECISION)  # fmt: skip
            step += 1
    else:
        for place in range(step, last):
            total = _add_tile(total, tl.load(tiles + place), tap, features, upstream, neighbours, order, rows, taps,
                              ci, co, f_row, channel, column, ORDERED, TILE, False, PRECISION)  # fmt: skip
    target = ((split * taps + tap) * ci + channel)[:, None] * co + column[None, :]
    tl.store(partial + target, total, mask=(channel < ci)[:, None] & (column < co)[None, :])


@dataclass(frozen=True)
class _Plan:
    """A map with its outputs in tiles, and which taps each tile needs: flags [tiles, V] of 0 and 1."""

    neighbours: Tensor
    order: Tensor | None
    tile: int
    flags: Tensor

    @classmethod
    def of(cls, neighbours: Tensor, order: Tensor | None) -> _Plan:
        neighbours = neighbours.contiguous()
        order = None if order is None else order.contiguous()
        rows, taps = neighbours.shape
        tile = 32 if interpreting() else 128
        tiles = triton.cdiv(rows, tile)
        flags = torch.zeros(tiles, taps, dtype=torch.int8, device=neighbours.device)
        if flags.numel():
            flags_kernel[tiles, triton.cdiv(taps, TAP_BLOCK)](
                neighbours, _stand_in(order, neighbours), flags, rows, taps, order is not None, tile, TAP_BLOCK
            )
        return cls(neighbours, order, tile, flags)

    def needed(self, flags: Tensor) -> tuple[Tensor, Tensor]:
        """In each row of the flags the places of ones, then the others; and how many ones there are."""
        flags = flags.contiguous()
        return flags.argsort(dim=1, descending=True, stable=True).int(), flags.sum(1, dtype=torch.int32)


def forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    neighbours: Tensor,
    reverse: Tensor | None,
    order: Tensor | None,
    reverse_order: Tensor | None,
) -> Tensor:
    """The convolution, [M, Co]."""
    weight = weight.contiguous()
    return _convolve(_Plan.of(neighbours, order), features, weight, bias, (weight.stride(1), weight.stride(2)))


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of features, weight and bias."""
    features, weight, bias, neighbours, reverse, order, reverse_order = arguments
    (upstream,) = gradients
    assert upstream is not None  # it is the only output
    upstream, weight = upstream.contiguous(), weight.contiguous()
    if reverse is None:
        from maquette_kernels.sparse.map_order import invert_map

        reverse = invert_map(neighbours, features.shape[0])
    back = _Plan.of(reverse, reverse_order)
    turned = (weight.stride(2), weight.stride(1))
    features_gradient = _convolve(back, upstream, weight, None, turned)
    weight_gradient = _correlate(_Plan.of(neighbours, order), features, upstream, weight)
    return features_gradient, weight_gradient, None if bias is None else upstream.sum(0, dtype=torch.float32)


def _convolve(plan: _Plan, source: Tensor, weight: Tensor, bias: Tensor | None, strides: tuple[int, int]) -> Tensor:
    """``weight`` [V, ., .] is contiguous; the strides are of its axes of inputs and outputs."""
    rows, taps = plan.neighbours.shape
    ci = source.shape[1]
    co = weight[0].numel() // max(ci, 1)
    out = source.new_empty(rows, co)
    if out.numel() and source.numel():
        needed, counts = plan.needed(plan.flags)
        sizes = _sizes(ci, co, source.dtype)
        conv_kernel[len(plan.flags), triton.cdiv(co, sizes["WIDTH"])](
            source, weight, _stand_in(bias, weight), plan.neighbours, _stand_in(plan.order, plan.neighbours), needed,
            counts, out, rows, taps, ci, co, source.stride(0), *strides,
            BIASED=bias is not None, ORDERED=plan.order is not None, TILE=plan.tile,
            BLOCKS=triton.cdiv(ci, sizes["DEPTH"]), **sizes, **_arithmetic(), **_launch(sizes["WIDTH"]),
        )  # fmt: skip
        return out
    return out.zero_() if bias is None else out.copy_(bias.expand_as(out))


def _correlate(plan: _Plan, features: Tensor, upstream: Tensor, weight: Tensor) -> Tensor:
    """The weight's gradient [V, Ci, Co] in float32."""
    rows, taps = plan.neighbours.shape
    ci, co = features.shape[1], upstream.shape[1]
    if not (features.numel() and upstream.numel() and weight.numel()):
        return torch.zeros_like(weight)
    tiles, counts = plan.needed(plan.flags.t())
    splits = min(SPLITS, triton.cdiv(len(plan.flags), 2))
    partial = torch.empty(splits, taps, ci, co, dtype=torch.float32, device=weight.device)
    sizes = _sizes(ci, co, features.dtype)
    columns = triton.cdiv(co, sizes["WIDTH"])
    weight_kernel[taps, triton.cdiv(ci, sizes["DEPTH"]) * columns, splits](
        features, upstream, plan.neighbours, _stand_in(plan.order, plan.neighbours), tiles, counts, partial,
        rows, taps, ci, co, features.stride(0), len(plan.flags), columns,
        ORDERED=plan.order is not None, TILE=plan.tile, PARTS=splits, **sizes, **_arithmetic(),
        **_launch(sizes["WIDTH"]),
    )  # fmt: skip
    return partial.sum(0)


def _stand_in(x: Tensor | None, other: Tensor) -> Tensor:
    return other if x is None else x


def _sizes(ci: int, co: int, dtype: torch.dtype) -> dict[str, int]:
    """Channels a step and columns a program; the tensor cores want 16 at least."""
    deepest = 32 if dtype == torch.float32 or interpreting() else 64
    widest = 32 if interpreting() else 128
    return {
        "DEPTH": min(deepest, max(16, triton.next_power_of_2(ci))),
        "WIDTH": min(widest, max(16, triton.next_power_of_2(co))),
    }


def _arithmetic() -> dict[str, Any]:
    fast = torch.get_float32_matmul_precision() != "highest"
    return {"INTERPRET": interpreting(), "PRECISION": "tf32" if fast and not interpreting() else "ieee"}


def _launch(width: int) -> dict[str, int]:
    if interpreting():
        return {}
    return {"num_warps": 8 if width == 128 else 4, "num_stages": 2 if torch.version.hip else 3}


def compilations() -> list[Compilation]:
    """Forward and weight gradient at 128 channels in bf16, forward at 64 in float32, and the flags."""
    sizes = {"ORDERED": True, "TILE": 128, "WIDTH": 128, "DEPTH": 64, "INTERPRET": False, "PRECISION": "tf32"}
    forwards = {"BIASED": True, "BLOCKS": 2, **sizes}
    small = forwards | {"WIDTH": 64, "DEPTH": 32}
    return [
        _compilation(conv_kernel, "*bf16", forwards, 8),
        _compilation(conv_kernel, "*fp32", small, 4),
        _compilation(weight_kernel, "*bf16", {"PARTS": 32, **sizes}, 8),
        Compilation(flags_kernel, _types(flags_kernel, "*bf16"), {"ORDERED": True, "TILE": 128, "TAPS": TAP_BLOCK}),
    ]


def _compilation(kernel: Any, kind: str, constants: dict[str, Any], warps: int) -> Compilation:
    unit = "w_out" if "w_out" in kernel.arg_names else None
    known = constants if unit is None else constants | {unit: 1}
    multiples = tuple(name for name in ("ci", "co", "f_row", "w_in") if name in kernel.arg_names)
    return Compilation(kernel, _types(kernel, kind), known, multiples, {"num_warps": warps, "num_stages": 3})


def _types(kernel: Any, kind: str) -> dict[str, str]:
    known = dict.fromkeys(["features", "weight", "bias", "upstream", "out"], kind)
    known |= dict.fromkeys(["neighbours", "order", "needed", "counts", "tiles"], "*i32")
    known |= {"partial": "*fp32", "flags": "*i8"}
    return {name: known.get(name, "i32") for name in kernel.arg_names}
