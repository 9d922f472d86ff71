"""Sums of rows by vertex in Triton without atomics: the same bits every time, whatever falls on one vertex.

Rows are sorted by vertex. Runs of one vertex are cut into pieces of :data:`PIECE` rows whose sums are rows again, until
one piece is left: a face that fills the picture takes no longer than many small ones, and sums of many numbers keep
their digits.
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


@triton.jit
def sum_kernel(
    values, order, weights, firsts, stops, out, slots, channels,
    SLOTS: tl.constexpr, CHANNELS: tl.constexpr, SORTED: tl.constexpr, WEIGHTED: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Each slot adds its rows in order; row r of ``values`` is ``order[r] // SHARED`` times ``weights[order[r]]``."""
    slot = tl.program_id(0).to(tl.int64) * SLOTS + tl.arange(0, SLOTS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    live = slot < slots
    row = tl.load(firsts + slot, mask=live, other=0)
    stop = tl.load(stops + slot, mask=live, other=0)
    total = tl.zeros((SLOTS, CHANNELS), tl.float32)
    left = tl.max(stop - row, 0)
    while left > 0:
        more = row < stop
        source = row
        if SORTED:
            source = tl.load(order + row, mask=more, other=0)
        place = (source // SHARED * channels)[:, None] + channel[None, :]
        value = tl.load(values + place, mask=more[:, None] & (channel < channels)[None, :], other=0.0).to(tl.float32)
        if WEIGHTED:
            value *= tl.load(weights + source, mask=more, other=0.0).to(tl.float32)[:, None]
        total += value
        row += 1
        left -= 1
    mask = live[:, None] & (channel < channels)[None, :]
    tl.store(out + (slot * channels)[:, None] + channel[None, :], total, mask=mask)


def sum_by_vertex(values: Tensor, vertices: Tensor, count: int, *, weights: Tensor | None = None) -> Tensor:
    """Sums float32 [count, C] of rows by vertex.

    Args:
        values: [R, C], contiguous.
        vertices: int64 [R * K]: row ``i // K`` is added to vertex ``vertices[i]``; none from ``count`` on.
        weights: [R * K], factors of the rows.
    """
    sorted_vertices, order = torch.sort(vertices, stable=True)
    edges = torch.searchsorted(sorted_vertices, torch.arange(count + 1, device=values.device))
    begin, end, longest = edges[:-1], edges[1:], len(vertices)
    shared = max(len(vertices) // max(len(values), 1), 1)
    rows: Tensor = values
    source: Tensor | None = order
    while longest > PIECE:
        first, stop, begin, end = _pieces(begin, end, len(vertices) if source is not None else len(rows))
        rows = _sum(rows, source, weights, first, stop, shared)
        source, weights, shared, longest = None, None, 1, triton.cdiv(longest, PIECE)
    return _sum(rows, source, weights, begin, end, shared)


def _pieces(begin: Tensor, end: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs cut into pieces: first row and end of each piece, and the first piece and end of each run.

    There may be more pieces than needed, empty ones: their number is known without asking the device.
    """
    pieces = (end - begin + PIECE - 1) // PIECE
    last = pieces.cumsum(0)
    slot = torch.arange(rows // PIECE + len(begin), device=begin.device)
    run = torch.searchsorted(last, slot, right=True).clamp(max=len(begin) - 1)
    first = begin[run] + (slot - (last - pieces)[run]) * PIECE
    stop = torch.where(slot < last[-1], torch.minimum(first + PIECE, end[run]), first)
    return first, stop, last - pieces, last


def _sum(
    rows: Tensor, order: Tensor | None, weights: Tensor | None, first: Tensor, stop: Tensor, shared: int
) -> Tensor:
    slots, channels = len(first), rows.shape[-1]
    out = rows.new_zeros((slots, channels), dtype=torch.float32)
    if out.numel() and rows.numel():
        wide = min(triton.next_power_of_2(channels), 64)
        block = min(triton.next_power_of_2(slots), 16384 // wide) if interpreting() else max(256 // wide, 1)
        sum_kernel[(triton.cdiv(slots, block), triton.cdiv(channels, wide))](
            rows, first if order is None else order, rows if weights is None else weights, first, stop, out,
            slots, channels, SLOTS=block, CHANNELS=wide, SORTED=order is not None, WEIGHTED=weights is not None,
            SHARED=shared,
        )  # fmt: skip
    return out


def compilations() -> list[Compilation]:
    """A sum of sorted, weighted rows of 64 channels, and one of pieces of 4 channels."""
    types = {"values": "*fp32", "order": "*i64", "weights": "*fp32", "firsts": "*i64", "stops": "*i64", "out": "*fp32"}
    kinds: list[dict[str, Any]] = [
        {"SLOTS": 4, "CHANNELS": 64, "SORTED": True, "WEIGHTED": True, "SHARED": 3},
        {"SLOTS": 64, "CHANNELS": 4, "SORTED": False, "WEIGHTED": False, "SHARED": 1},
    ]
    scalars = {"slots": "i32", "channels": "i32"}
    return [Compilation(sum_kernel, types | scalars, constants) for constants in kinds]
