"""Sums of rows by group in Triton without atomics: the same bits every time, whatever falls into one group.

Rows are sorted by group. Runs of more than :data:`PIECE` rows are cut into pieces whose sums are rows again, until no
run is longer: a group that takes all rows takes no longer than many small ones, and sums of many numbers keep their
digits. How a group's rows are added depends on how many they are, not on the other groups.
"""

# ruff: noqa: PLR0917  (kernels take plain positional arguments)
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.triton_support import Compilation, interpreting

PIECE = 32
"""Most rows that are added one after the other."""
CHANNELS = 128
"""Most channels that one program handles."""
TILE = 512
"""Sums, of channels of groups, that one program handles on a GPU."""
UNROLL = 4
"""Rows that a group loads at once on a GPU."""


@triton.jit
def sum_kernel(
    values, order, weights, firsts, stops, out, slots, channels,
    SLOTS: tl.constexpr, CHANNELS: tl.constexpr, PIECE: tl.constexpr, UNROLL: tl.constexpr,
    SORTED: tl.constexpr, WEIGHTED: tl.constexpr, SHARED: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Each slot with 1 to PIECE entries adds them in order; others are left as they are.

    Entry e is row ``order[e] // SHARED`` of ``values``, times ``weights[order[e]]``.
    """
    slot = tl.program_id(0).to(tl.int64) * SLOTS + tl.arange(0, SLOTS)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    cursor = tl.load(firsts + slot, mask=slot < slots, other=0)
    stop = tl.load(stops + slot, mask=slot < slots, other=0)
    mine = (stop > cursor) & (stop - cursor <= PIECE)
    left = tl.max(tl.where(mine, stop - cursor, 0), 0)
    total = tl.zeros((SLOTS, CHANNELS), tl.float64 if DOUBLE else tl.float32)
    while left > 0:
        for step in tl.static_range(UNROLL):
            more = mine & (cursor + step < stop)
            source = cursor + step
            if SORTED:
                source = tl.load(order + source, mask=more, other=0)
            place = (source // SHARED * channels)[:, None] + channel
            value = tl.load(values + place, mask=more[:, None] & (channel < channels), other=0.0).to(total.dtype)
            if WEIGHTED:
                value *= tl.load(weights + source, mask=more, other=0.0).to(total.dtype)[:, None]
            total += value
        cursor += UNROLL
        left -= UNROLL
    place = (slot * channels)[:, None] + channel
    tl.store(out + place, total.to(out.dtype.element_ty), mask=mine[:, None] & (channel < channels))


def segment_sum(
    values: Tensor, groups: Tensor, count: int, *, weights: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Sums rows by group: ``out[g]`` is the sum of ``weights[r, k] * values[r]`` over all ``groups[r, k] == g``.

    Rows are added in their order, in float64 where ``values`` are, else in float32. Nothing waits for the GPU.

    Args:
        values: [R, C], of any floating-point dtype.
        groups: int32 or int64, [R], or [R, K] where each row goes into K groups; a number outside 0..count - 1 is
            no group.
        count: number of groups.
        weights: of any floating-point dtype, as many as ``groups``; 1 by default.
        dtype: of the result; that in which is added by default.

    Returns:
        [count, C], 0 for groups without rows.
    """
    precise = torch.float64 if values.dtype == torch.float64 else torch.float32
    out = values.new_zeros((count, values.shape[1]), dtype=dtype or precise)
    if not out.numel() or not groups.numel():
        return out
    sorted_groups, order = groups.flatten().sort(stable=True)
    edges = torch.searchsorted(sorted_groups, torch.arange(count + 1, dtype=groups.dtype, device=groups.device))
    begin, end = edges[:-1], edges[1:]
    rows, entries = values.contiguous(), order
    factors = None if weights is None else weights.contiguous()
    _add(rows, entries, factors, begin, end, out)
    # Without asking the device, all may be of one group.
    longest, number = len(order), len(order)
    while longest > PIECE:
        first, stop, begin, end = _pieces(begin, end, number)
        parts = out.new_empty((len(first), out.shape[1]), dtype=precise)
        _add(rows, entries, factors, first, stop, parts)
        rows, entries, factors = parts, None, None
        longest, number = triton.cdiv(longest, PIECE), len(parts)
        _add(rows, entries, factors, begin, end, out)
    return out


def _pieces(begin: Tensor, end: Tensor, entries: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Long runs cut into pieces: first entry and end of each piece, and first piece and end of each run; 0, 0 or the
    like for runs that are not long.

    There may be more pieces than needed, empty ones: their number is known without asking the device.
    """
    length = end - begin
    pieces = torch.where(length > PIECE, (length + PIECE - 1) // PIECE, 0)
    last = pieces.cumsum(0)
    slot = torch.arange(2 * entries // PIECE, device=begin.device)
    run = torch.searchsorted(last, slot, right=True).clamp_(max=len(begin) - 1)
    first = begin[run] + (slot - (last - pieces)[run]) * PIECE
    stop = torch.where(slot < last[-1], torch.minimum(first + PIECE, end[run]), first)
    return first, stop, last - pieces, last


def _add(rows: Tensor, order: Tensor | None, weights: Tensor | None, first: Tensor, stop: Tensor, out: Tensor) -> None:
    slots, channels = out.shape
    wide = min(triton.next_power_of_2(channels), CHANNELS)
    block = min(triton.next_power_of_2(slots), 16384 // wide) if interpreting() else TILE // wide
    sum_kernel[(triton.cdiv(slots, block), triton.cdiv(channels, wide))](
        rows, first if order is None else order, rows if weights is None else weights, first, stop, out,
        slots, channels, SLOTS=block, CHANNELS=wide, PIECE=PIECE, UNROLL=1 if interpreting() else UNROLL,
        SORTED=order is not None, WEIGHTED=weights is not None, SHARED=1 if order is None else len(order) // len(rows),
        DOUBLE=rows.dtype == torch.float64,
    )  # fmt: skip


def compilations(
    channels: int, *, values: str = "*fp32", out: str | None = None, shared: int = 1, weighted: bool = False
) -> list[Compilation]:
    """The kernel as :func:`segment_sum` launches it: on rows and, where runs are long, on sums of pieces.

    Args:
        channels: C.
        values: type of the rows.
        out: type of the result; that in which is added by default.
        shared: K, groups of each row.
        weighted: whether there are weights, in float32.
    """
    precise = "*fp64" if values == "*fp64" else "*fp32"
    wide = min(triton.next_power_of_2(channels), CHANNELS)
    sizes = {"SLOTS": TILE // wide, "CHANNELS": wide, "PIECE": PIECE, "UNROLL": UNROLL, "DOUBLE": values == "*fp64"}
    types = {"order": "*i64", "weights": "*fp32", "firsts": "*i64", "stops": "*i64", "slots": "i32", "channels": "i32"}
    types["out"] = out or precise
    given: dict[str, Any] = {"SORTED": True, "WEIGHTED": weighted, "SHARED": shared}
    parts: dict[str, Any] = {"SORTED": False, "WEIGHTED": False, "SHARED": 1}
    return [
        Compilation(sum_kernel, {**types, "values": kind}, {**sizes, **constants})
        for kind, constants in ((values, given), (precise, parts))
    ]
