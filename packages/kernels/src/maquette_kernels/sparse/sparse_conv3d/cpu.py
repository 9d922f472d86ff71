"""``sparse_conv3d`` on CPUs, in two ways.

By pairs: whatever meets through a tap is multiplied where it lies, by register blocks of our own (``blocks``), and
summed in float32; nothing is multiplied with zeros. Operands are float32 too, except for bfloat16 where the processor
multiplies that. Side by side: the neighbours of a run of rows are gathered into one matrix and multiplied with all
taps' weights by torch; for bfloat16 where the processor has AMX and many neighbours are there, and for float64.
Backward passes add in a fixed order.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maquette_kernels.sparse.sparse_conv3d import pairs
from maquette_kernels.sparse.sparse_conv3d.blocks import CHANNELS, FEATURES, LANES, PAIRED
from maquette_kernels.threads import in_chunks

CACHE = 1 << 21
"""Bytes of gathered rows to work on at a time."""

_NEVER = 2.0
DENSE_FROM = {torch.bfloat16: 0.4 if FEATURES.get("amx-bf16") else _NEVER, torch.float64: 0.0}
"""Share of present neighbours from which side by side is faster than by pairs; other types never are. Without AMX,
pairs of bfloat16 are as fast up to full grids from 32 channels on, measured; with AMX the share is an estimate.
"""

_AS_WHOLE = {2: torch.int16, 8: torch.int64}


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
    neighbours = neighbours.contiguous()
    if _is_dense(features.dtype, neighbours):
        taps = weight.reshape(-1, weight.shape[2])
        out = features.new_empty(neighbours.shape[0], weight.shape[2])
        for rows, gathered in _side_by_side(features, neighbours):
            torch.mm(gathered, taps, out=out[rows])
    else:
        out = _by_pairs(features, weight, neighbours)
    if bias is not None:
        out += bias
    return out.to(features.dtype)


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of features, weight and bias."""
    features, weight, bias, neighbours, reverse, *_ = arguments
    (upstream,) = gradients
    assert upstream is not None  # it is the only output
    if reverse is None:
        from maquette_kernels.sparse.map_order import invert_map

        reverse = invert_map(neighbours, features.shape[0])
    reverse, turned = reverse.contiguous(), weight.transpose(1, 2)
    bias_gradient = None if bias is None else upstream.sum(0, dtype=_summing(upstream.dtype))
    if _is_dense(features.dtype, reverse):
        return *_backward_side_by_side(features, turned, reverse, upstream), bias_gradient
    features_gradient = _by_pairs(upstream, turned, reverse)
    return features_gradient, _correlate(features, upstream, neighbours.contiguous()), bias_gradient


def _summing(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _is_dense(dtype: torch.dtype, neighbours: Tensor) -> bool:
    share = DENSE_FROM.get(dtype, _NEVER)
    return share < 1 and pairs.count_pairs(neighbours.numpy()) >= share * neighbours.numel()


def _by_pairs(source: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    """The convolution over the map [M, V], summed in float32."""
    paired = PAIRED and source.dtype == weight.dtype == torch.bfloat16
    taps = _paired_taps(weight) if paired else _widened(weight, LANES)
    own = _as_pairs(source) if paired else _widened(source, 1)
    rows, width = neighbours.shape[0], taps.shape[2]
    out = torch.zeros(rows + 1, width)  # the row beyond the end takes what fills up blocks
    arrays = (own.numpy(), taps.numpy(), neighbours.numpy(), out.numpy())
    in_chunks(lambda start, stop: pairs.convolve(*arrays, start, stop), rows, pairs.ROWS)
    return out[:rows, : weight.shape[2]]


def _correlate(features: Tensor, upstream: Tensor, neighbours: Tensor) -> Tensor:
    """The weight's gradient in float32, over the map [M, V]; each tap by one thread, rows in order."""
    taps, depth, width = neighbours.shape[1], features.shape[1], upstream.shape[1]
    total = torch.zeros(taps, depth + -depth % CHANNELS, width + -width % LANES)
    if PAIRED and features.dtype == upstream.dtype == torch.bfloat16:
        correlate, operands = pairs.correlate_halves, [x.detach().contiguous() for x in (features, upstream)]
        operands = [x.view(torch.uint16) for x in operands]
    else:
        correlate, operands = pairs.correlate, [_widened(features, CHANNELS), _widened(upstream, LANES)]
    arrays = (*[x.numpy() for x in operands], neighbours.numpy(), total.numpy())
    share = -(-taps // torch.get_num_threads())
    in_chunks(lambda start, stop: correlate(*arrays, start, stop), taps, share)
    return total[:, :depth, :width]


def _widened(x: Tensor, multiple: int) -> Tensor:
    """In contiguous float32, with columns of zeros up to a multiple."""
    return _filled(x.detach().float(), multiple).contiguous()


def _filled(x: Tensor, multiple: int) -> Tensor:
    """With columns of zeros up to a multiple."""
    missing = -x.shape[-1] % multiple
    return functional.pad(x, (0, missing)) if missing else x


def _as_pairs(x: Tensor) -> Tensor:
    """Each two neighbouring bfloat16 of a row as one int32; a 0 follows an odd last one."""
    x = _filled(x.detach(), 2).contiguous()
    flat = x.view(-1)  # strides of single rows may be anything
    whole = (flat.clone() if flat.storage_offset() % 2 else flat).view(torch.int32)
    return whole.view(*x.shape[:-1], x.shape[-1] // 2)


def _paired_taps(weight: Tensor) -> Tensor:
    """A weight [V, Ci, Co] as int32 of two channels' values, [V, Ci / 2, Co], with columns of zeros."""
    channels_last = _filled(weight.detach().transpose(1, 2), 2)
    return _filled(_as_pairs(channels_last).transpose(1, 2), LANES).contiguous()


def _backward_side_by_side(
    features: Tensor, turned: Tensor, reverse: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of features and weight from one gathering of upstream gradients; the weight comes as [V, Co, Ci]."""
    count, (taps, width, channels) = features.shape[0], turned.shape
    matrix = turned.reshape(taps * width, channels)
    out, total = features.new_empty(count, channels), torch.zeros(channels, taps * width, dtype=_summing(turned.dtype))
    for rows, gathered in _side_by_side(upstream, reverse):
        torch.mm(gathered, matrix, out=out[rows])
        total += torch.mm(features[rows].t(), gathered)
    return out, total.view(channels, taps, width).transpose(0, 1)


def _side_by_side(source: Tensor, neighbours: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Runs of rows with their neighbours through all taps, [rows, V * C], a cacheful at a time."""
    count, taps = neighbours.shape
    width = taps * source.shape[1]
    length = max(64, CACHE // max(1, width * source.element_size()))
    buffer = source.new_empty(min(length, count), width)
    whole = _AS_WHOLE[source.element_size()]
    arrays = (source.detach().contiguous().view(whole).numpy(), neighbours.numpy())
    target = buffer.view(whole).numpy()
    for first in range(0, count, length):
        rows = min(length, count - first)
        share = -(-rows // torch.get_num_threads())

        def gather(start: int, stop: int, first: int = first) -> None:
            pairs.gather_taps(*arrays, first, target, start, stop)

        in_chunks(gather, rows, share)
        yield slice(first, first + rows), buffer[:rows]
