"""Weighted sums of rows, and their gradients, compiled by numba: what all sampling on a CPU comes down to.

A sample is a sum over its taps: ``out[m] = sum_k weights[m, k] * rows[index[m, k]]``; an index of -1 is no row.
"""

# Compiled kernels take their arrays by position.
# ruff: noqa: PLR0917
from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.threads import in_chunks

CHUNK = 2048


@njit(cache=True, nogil=True, fastmath={"contract"})
def _gather(rows, index, weights, out, start, stop):
    for m in range(start, stop):
        for c in range(out.shape[1]):
            out[m, c] = 0
        for k in range(index.shape[1]):
            i, weight = index[m, k], weights[m, k]
            if i >= 0:
                for c in range(out.shape[1]):
                    out[m, c] += weight * rows[i, c]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _dots(rows, index, above, out, start, stop):
    for m in range(start, stop):
        for k in range(index.shape[1]):
            total = out[m, k] * 0
            i = index[m, k]
            if i >= 0:
                for c in range(above.shape[1]):
                    total += out.dtype.type(above[m, c]) * rows[i, c]
            out[m, k] = total


@njit(cache=True, nogil=True)
def _taps_of_rows(index, starts, order):
    """Sort the taps by their row, those of a row in the order of the samples; ``starts`` comes in as zeros."""
    flat = index.ravel()
    for tap in range(flat.size):
        if flat[tap] >= 0:
            starts[flat[tap] + 1] += 1
    for n in range(starts.size - 1):
        starts[n + 1] += starts[n]
    at = starts[:-1].copy()
    for tap in range(flat.size):
        row = flat[tap]
        if row >= 0:
            order[at[row]] = tap
            at[row] += 1


@njit(cache=True, nogil=True, fastmath={"contract"})
def _scatter(above, starts, order, weights, out, start, stop):
    flat = weights.ravel()
    for n in range(start, stop):
        for c in range(out.shape[1]):
            out[n, c] = 0
        for place in range(starts[n], starts[n + 1]):
            tap = order[place]
            m, weight = tap // weights.shape[1], flat[tap]
            for c in range(out.shape[1]):
                out[n, c] += weight * above[m, c]


def gather(rows: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Samples [M, C] in the dtype of the weights [M, K], of rows [N, C] by int32 indices [M, K]."""
    out = torch.empty((index.shape[0], rows.shape[1]), dtype=weights.dtype)
    given = [plain(rows.to(weights.dtype)), plain(index), plain(weights), out.numpy()]
    in_chunks(lambda start, stop: _gather(*given, start, stop), index.shape[0], CHUNK)
    return out


def dots(rows: Tensor, index: Tensor, above: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Gradient of the weights [M, K], in ``dtype`` (that of ``above`` by default): products of the samples' gradients
    [M, C] with the rows.
    """
    out = torch.zeros(index.shape, dtype=dtype or above.dtype)
    given = [plain(rows.to(above.dtype)), plain(index), plain(above), out.numpy()]
    in_chunks(lambda start, stop: _dots(*given, start, stop), index.shape[0], CHUNK)
    return out


def scatter(above: Tensor, index: Tensor, weights: Tensor, count: int) -> Tensor:
    """Gradient of the rows [N, C] from those of the samples [M, C]."""
    out = torch.empty((count, above.shape[1]), dtype=weights.dtype)
    starts, order = np.zeros(count + 1, np.int64), np.empty(index.numel(), np.int64)
    _taps_of_rows(plain(index), starts, order)
    given = [plain(above.to(weights.dtype)), starts, order, plain(weights), out.numpy()]
    in_chunks(lambda start, stop: _scatter(*given, start, stop), count, CHUNK)
    return out


def plain(x: Tensor) -> np.ndarray:
    """A tensor's contiguous elements, so that each kernel is compiled for one layout only."""
    return x.detach().contiguous().numpy()
