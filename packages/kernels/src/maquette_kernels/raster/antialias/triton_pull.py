"""The kernel for the gradient of positions: an edge that moves moves the colours on its two sides."""

# ruff: noqa: PLR0917  (kernels take plain positional arguments)
from __future__ import annotations

import triton
import triton.language as tl

from maquette_kernels.raster.antialias.triton_edges import on_screen


@triton.jit
def _slope(image, upstream, shift, crossed, p, q, channels, live, BLOCK: tl.constexpr, CHANNELS: tl.constexpr):
    """Gradient of each shift: the taker's gradient times the difference of the two colours."""
    moved = tl.load(shift + crossed, mask=live, other=0.0)
    taker = tl.where(moved > 0.0, q, p)
    total = tl.zeros((BLOCK,), tl.float32)
    first = 0
    while first < channels:
        channel = first + tl.arange(0, CHANNELS)[None, :]
        mask = live[:, None] & (channel < channels)
        gradient = tl.load(upstream + (taker * channels)[:, None] + channel, mask=mask, other=0.0).to(tl.float32)
        here = tl.load(image + (p * channels)[:, None] + channel, mask=mask, other=0.0).to(tl.float32)
        there = tl.load(image + (q * channels)[:, None] + channel, mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(gradient * (here - there), 1)
        first += CHANNELS
    return total.to(tl.float64)


@triton.jit
def _store_end(clip, values, targets, place, vertex, beside, along, lean, sizes_along, sizes_across, live):
    """Gradient of one end of an edge; ``beside``: the pair lies one above the other."""
    w = tl.load(clip + vertex * 4 + 3, mask=live, other=1.0)
    x = tl.load(clip + vertex * 4, mask=live, other=0.0)
    y = tl.load(clip + vertex * 4 + 1, mask=live, other=0.0)
    first, second = along * 0.5 * sizes_along / w, -along * lean * 0.5 * sizes_across / w
    dx, dy = tl.where(beside, second, first), tl.where(beside, first, second)
    tl.store(values + place * 4, dx.to(tl.float32), mask=live)
    tl.store(values + place * 4 + 1, dy.to(tl.float32), mask=live)
    tl.store(values + place * 4 + 2, tl.zeros_like(dx).to(tl.float32), mask=live)
    tl.store(values + place * 4 + 3, (-(dx * x + dy * y) / w).to(tl.float32), mask=live)
    tl.store(targets + place, vertex, mask=live)


@triton.jit
def pull_kernel(
    image, upstream, shift, edge, crossed, clip, faces, values, targets, pairs, vertices, height, width, channels,
    BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradients [pair, end, 4] of clip positions and the vertices they belong to."""
    pair = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = pair < pairs
    place = tl.load(crossed + pair, mask=live, other=0)
    plane = height * width
    picture, below, inner = place // (2 * plane), place // plane % 2 == 1, place % plane
    column, row = inner % width, inner // width
    p = picture * plane + inner
    q = p + tl.where(below, width, 1)
    slope = _slope(image, upstream, shift, place, p, q, channels, live, BLOCK, CHANNELS)
    number = tl.load(edge + place, mask=live, other=0).to(tl.int64)
    face, corner = number // 3, number % 3
    a = tl.load(faces + face * 3 + corner, mask=live, other=0).to(tl.int64) + picture * vertices
    b = tl.load(faces + face * 3 + (corner + 1) % 3, mask=live, other=0).to(tl.int64) + picture * vertices
    ax, _wa = on_screen(clip, a, live, width, 0)
    ay, _wb = on_screen(clip, a, live, height, 1)
    bx, _wc = on_screen(clip, b, live, width, 0)
    by, _wd = on_screen(clip, b, live, height, 1)
    low = tl.where(below, ax, ay)
    run, rise = tl.where(below, by - ay, bx - ax), tl.where(below, bx - ax, by - ay)
    rise = tl.where(live, rise, 1.0)
    share = (tl.where(below, column, row).to(tl.float64) + 0.5 - low) / rise
    lean = run / rise
    sizes_along, sizes_across = tl.where(below, height, width), tl.where(below, width, height)
    _store_end(
        clip, values, targets, pair * 2, a, below, slope * (1.0 - share), lean, sizes_along, sizes_across, live
    )  # fmt: skip
    _store_end(clip, values, targets, pair * 2 + 1, b, below, slope * share, lean, sizes_along, sizes_across, live)
