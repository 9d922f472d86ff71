"""``ragged_attention`` in Triton: one forward kernel, and two backward ones, each of which owns what it writes, so
that there are no atomics and repeats give equal bits.

A program takes one block of rows of one sequence and head; blocks behind the sequence's end do nothing. Small
windows make small blocks. Scores and sums are float32, in powers of two: exponents carry the factor log2(e).
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LOG_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _whereabouts(offsets, other_offsets, heads, blocks, ROWS: tl.constexpr):
    """What a program works on: its head and first row, and where its own and the other sequence lie."""
    program = tl.program_id(0)
    block = program % blocks
    head = (program // blocks) % heads
    sequence = program // blocks // heads
    first = tl.load(offsets + sequence)
    length = (tl.load(offsets + sequence + 1) - first).to(tl.int32)
    other_first = tl.load(other_offsets + sequence)
    other_length = (tl.load(other_offsets + sequence + 1) - other_first).to(tl.int32)
    return head.to(tl.int64), block * ROWS, first, length, other_first, other_length


@triton.jit
def _place(start, length, row_stride, dim, ROWS: tl.constexpr, DIM: tl.constexpr):
    """Offsets of a block's elements from its sequence and head's first, and which of them exist."""
    row = start + tl.arange(0, ROWS)
    column = tl.arange(0, DIM)
    mask = (row < length)[:, None] & (column < dim)[None, :]
    return row.to(tl.int64)[:, None] * row_stride + column[None, :], mask


@triton.jit
def _tile(base, start, length, row_stride, dim, ROWS: tl.constexpr, DIM: tl.constexpr, UPCAST: tl.constexpr):
    """A block of rows, zeros where there is nothing. The interpreter cannot multiply bfloat16, so it widens them."""
    place, mask = _place(start, length, row_stride, dim, ROWS, DIM)
    tile = tl.load(base + place, mask=mask, other=0.0)
    if UPCAST:
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def _keep(base, tile, start, length, row_stride, dim, ROWS: tl.constexpr, DIM: tl.constexpr):
    place, mask = _place(start, length, row_stride, dim, ROWS, DIM)
    tl.store(base + place, tile.to(base.dtype.element_ty), mask=mask)


@triton.jit
def _absorb(
    mixed, total, peak, queries, k, v, start, length, k_row, v_row, dim, factor,
    KEYS: tl.constexpr, DIM: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One more block of keys into the running softmax."""
    keys = _tile(k, start, length, k_row, dim, KEYS, DIM, UPCAST)
    values = _tile(v, start, length, v_row, dim, KEYS, DIM, UPCAST)
    scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * factor
    live = start + tl.arange(0, KEYS) < length
    scores = tl.where(live[None, :], scores, float("-inf"))
    highest = tl.maximum(peak, tl.max(scores, 1))
    weights = tl.exp2(scores - highest[:, None])
    shrink = tl.exp2(peak - highest)
    total = total * shrink + tl.sum(weights, 1)
    mixed = mixed * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
    return mixed, total, highest


@triton.jit
def forward_kernel(
    q, k, v, q_offsets, k_offsets, out, sums, tokens, heads, dim, blocks, factor,
    q_row, q_head, k_row, k_head, v_row, v_head,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, DIM: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr, WHILE: tl.constexpr,
):  # fmt: skip
    head, start, first, length, k_first, k_length = _whereabouts(q_offsets, k_offsets, heads, blocks, QUERIES)
    if start < length:
        queries = _tile(q + first * q_row + head * q_head, start, length, q_row, dim, QUERIES, DIM, UPCAST)
        k += k_first * k_row + head * k_head
        v += k_first * v_row + head * v_head
        mixed = tl.zeros((QUERIES, DIM), tl.float32)
        total = tl.zeros((QUERIES,), tl.float32)
        peak = tl.full((QUERIES,), float("-inf"), tl.float32)
        if WHILE:  # the interpreter of Triton 3.6 cannot count to a loaded number; compilers pipeline only "for"
            at = start * 0
            while at < k_length:
                mixed, total, peak = _absorb(
                    mixed, total, peak, queries, k, v, at, k_length, k_row, v_row, dim, factor,
                    KEYS, DIM, UPCAST, PRECISION,
                )  # fmt: skip
                at += KEYS
        else:
            for at in range(0, k_length, KEYS):
                mixed, total, peak = _absorb(
                    mixed, total, peak, queries, k, v, at, k_length, k_row, v_row, dim, factor,
                    KEYS, DIM, UPCAST, PRECISION,
                )  # fmt: skip
        some = total > 0.0
        mixed = tl.where(some[:, None], mixed / tl.where(some, total, 1.0)[:, None], 0.0)
        _keep(out + (first * heads + head) * dim, mixed, start, length, heads * dim, dim, QUERIES, DIM)
        row = start + tl.arange(0, QUERIES)
        logs = tl.where(some, peak * LOG_2 + tl.log(tl.where(some, total, 1.0)), 0.0)
        tl.store(sums + head * tokens + first + row, logs, mask=row < length)


@triton.jit
def _weigh(
    queries, upstream, logs, k, v, start, length, k_row, v_row, dim, factor,
    KEYS: tl.constexpr, DIM: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A block of keys, the weights that queries give them, and products of the values with gradients from above."""
    keys = _tile(k, start, length, k_row, dim, KEYS, DIM, UPCAST)
    values = _tile(v, start, length, v_row, dim, KEYS, DIM, UPCAST)
    scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * factor
    live = start + tl.arange(0, KEYS) < length
    weights = tl.where(live[None, :], tl.exp2(scores - logs[:, None]), 0.0)
    return keys, weights, tl.dot(upstream, tl.trans(values), input_precision=PRECISION)


@triton.jit
def _pull_queries(
    gradient, mean_key, exact, queries, upstream, logs, along, k, v, start, length, k_row, v_row, dim, factor,
    KEYS: tl.constexpr, DIM: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What one block of keys adds to the gradient of a block of queries, to their mean key and mean product."""
    keys, weights, products = _weigh(
        queries, upstream, logs, k, v, start, length, k_row, v_row, dim, factor, KEYS, DIM, UPCAST, PRECISION
    )
    slopes = weights * (products - along[:, None])
    exact += tl.sum(slopes, 1)
    mean_key += tl.dot(weights.to(keys.dtype), keys, input_precision=PRECISION)
    gradient += tl.dot(slopes.to(keys.dtype), keys, input_precision=PRECISION)
    return gradient, mean_key, exact


@triton.jit
def _pull_from_all(
    along, queries, upstream, logs, k, v, k_length, k_row, v_row, dim, factor,
    KEYS: tl.constexpr, DIM: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr, WHILE: tl.constexpr,
):  # fmt: skip
    """Gradient of a block of queries, and the mean product of each.

    ``along`` has the mean product from the output, which was rounded: where one key has nearly all the weight, that
    error would be the gradient. So what the slopes sum up to, which should be nothing, is taken off again.
    """
    gradient = tl.zeros((queries.shape[0], DIM), tl.float32)
    mean_key = tl.zeros((queries.shape[0], DIM), tl.float32)
    error = tl.zeros((queries.shape[0],), tl.float32)
    if WHILE:
        at = k_length * 0
        while at < k_length:
            gradient, mean_key, error = _pull_queries(
                gradient, mean_key, error, queries, upstream, logs, along, k, v, at, k_length, k_row, v_row, dim,
                factor, KEYS, DIM, UPCAST, PRECISION,
            )  # fmt: skip
            at += KEYS
    else:
        for at in range(0, k_length, KEYS):
            gradient, mean_key, error = _pull_queries(
                gradient, mean_key, error, queries, upstream, logs, along, k, v, at, k_length, k_row, v_row, dim,
                factor, KEYS, DIM, UPCAST, PRECISION,
            )  # fmt: skip
    return gradient - error[:, None] * mean_key, along + error


@triton.jit
def backward_queries_kernel(
    q, k, v, q_offsets, k_offsets, out, sums, upstream, along_out, dq, tokens, heads, dim, blocks, scale, factor,
    q_row, q_head, k_row, k_head, v_row, v_head, u_row, u_head,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, DIM: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr, WHILE: tl.constexpr,
):  # fmt: skip
    head, start, first, length, k_first, k_length = _whereabouts(q_offsets, k_offsets, heads, blocks, QUERIES)
    if start < length:
        queries = _tile(q + first * q_row + head * q_head, start, length, q_row, dim, QUERIES, DIM, UPCAST)
        above = _tile(upstream + first * u_row + head * u_head, start, length, u_row, dim, QUERIES, DIM, UPCAST)
        own = (first * heads + head) * dim
        given = _tile(out + own, start, length, heads * dim, dim, QUERIES, DIM, UPCAST)
        along = tl.sum(above.to(tl.float32) * given.to(tl.float32), 1)
        row = start + tl.arange(0, QUERIES)
        place = head * tokens + first + row
        logs = tl.load(sums + place, mask=row < length, other=0.0) * LOG2_E
        k += k_first * k_row + head * k_head
        v += k_first * v_row + head * v_head
        gradient, along = _pull_from_all(
            along, queries, above, logs, k, v, k_length, k_row, v_row, dim, factor,
            KEYS, DIM, UPCAST, PRECISION, WHILE,
        )  # fmt: skip
        tl.store(along_out + place, along, mask=row < length)
        _keep(dq + own, gradient * scale, start, length, heads * dim, dim, QUERIES, DIM)


@triton.jit
def _pull_keys(
    k_gradient, v_gradient, keys, values, q, upstream, sums, along_in, start, length, q_row, u_row, dim, factor,
    QUERIES: tl.constexpr, DIM: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What one block of queries adds to the gradients of a block of keys and values."""
    queries = _tile(q, start, length, q_row, dim, QUERIES, DIM, UPCAST)
    above = _tile(upstream, start, length, u_row, dim, QUERIES, DIM, UPCAST)
    row = start + tl.arange(0, QUERIES)
    # Infinite logarithms take the weights of rows that do not exist to zero.
    logs = tl.load(sums + row, mask=row < length, other=float("inf")) * LOG2_E
    along = tl.load(along_in + row, mask=row < length, other=0.0)
    weights = tl.exp2(tl.dot(keys, tl.trans(queries), input_precision=PRECISION) * factor - logs[None, :])
    v_gradient += tl.dot(weights.to(above.dtype), above, input_precision=PRECISION)
    products = tl.dot(values, tl.trans(above), input_precision=PRECISION)
    slopes = weights * (products - along[None, :])
    k_gradient += tl.dot(slopes.to(queries.dtype), queries, input_precision=PRECISION)
    return k_gradient, v_gradient


@triton.jit
def backward_keys_kernel(
    q, k, v, q_offsets, k_offsets, sums, upstream, along, dk, dv, tokens, heads, dim, blocks, scale, factor,
    q_row, q_head, k_row, k_head, v_row, v_head, u_row, u_head,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, DIM: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr, WHILE: tl.constexpr,
):  # fmt: skip
    head, start, first, length, q_first, q_length = _whereabouts(k_offsets, q_offsets, heads, blocks, KEYS)
    if start < length:
        keys = _tile(k + first * k_row + head * k_head, start, length, k_row, dim, KEYS, DIM, UPCAST)
        values = _tile(v + first * v_row + head * v_head, start, length, v_row, dim, KEYS, DIM, UPCAST)
        q += q_first * q_row + head * q_head
        upstream += q_first * u_row + head * u_head
        sums += head * tokens + q_first
        along += head * tokens + q_first
        k_gradient = tl.zeros((KEYS, DIM), tl.float32)
        v_gradient = tl.zeros((KEYS, DIM), tl.float32)
        if WHILE:
            at = start * 0
            while at < q_length:
                k_gradient, v_gradient = _pull_keys(
                    k_gradient, v_gradient, keys, values, q, upstream, sums, along, at, q_length, q_row, u_row, dim,
                    factor, QUERIES, DIM, UPCAST, PRECISION,
                )  # fmt: skip
                at += QUERIES
        else:
            for at in range(0, q_length, QUERIES):
                k_gradient, v_gradient = _pull_keys(
                    k_gradient, v_gradient, keys, values, q, upstream, sums, along, at, q_length, q_row, u_row, dim,
                    factor, QUERIES, DIM, UPCAST, PRECISION,
                )  # fmt: skip
        own = (first * heads + head) * dim
        _keep(dk + own, k_gradient * scale, start, length, heads * dim, dim, KEYS, DIM)
        _keep(dv + own, v_gradient, start, length, heads * dim, dim, KEYS, DIM)
