"""``sample_triplane`` on a CPU, compiled by numba."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.sampling import taps_cpu
from maquette_kernels.sampling.sample_triplane.layout import as_planes, sample_shape, taps_of_a_sample, texels
from maquette_kernels.sampling.sample_triplane.reference import working_dtype
from maquette_kernels.sampling.taps_cpu import CHUNK, plain
from maquette_kernels.threads import in_chunks

NOWHERE = -2
"""First texel of a coordinate that meets none: neither it nor the next is on the plane."""


@njit
def _cell(point, side, clamp, base, weights):
    """First texel of each coordinate, and the weights of it and the next."""
    for axis in range(3):
        weights[axis, 0] = ((point[axis] + 1) * side - 1) / 2
        if clamp and weights[axis, 0] <= 0:
            weights[axis, 0] = 0
        if clamp and weights[axis, 0] >= side - 1:
            weights[axis, 0] = side - 1
        place = weights[axis, 0]
        base[axis] = NOWHERE
        if place > -1 and place < side:
            floor = np.floor(place)
            base[axis], weights[axis, 0], weights[axis, 1] = np.int64(floor), floor + 1 - place, place - floor


@njit
def _axes(plane):
    """Axes of a point along the width and the height of a plane."""
    return plane // 2, 1 + (plane + 1) // 2


@njit(cache=True, nogil=True)
def _locate(points, side, clamp, index, weights, start, stop):
    base, share = np.empty(3, np.int64), np.empty((3, 2), points.dtype)
    for m in range(start, stop):
        element, p = m // points.shape[1], m % points.shape[1]
        _cell(points[element, p], side, clamp, base, share)
        for tap in range(12):
            plane, row, column = tap // 4, tap // 2 % 2, tap % 2
            across, down = _axes(plane)
            u, v = base[across] + column, base[down] + row
            there = 0 <= u < side and 0 <= v < side
            index[m, tap] = ((element * 3 + plane) * side + v) * side + u if there else -1
            weights[m, tap] = share[across, column] * share[down, row] if there else 0


@njit(cache=True, nogil=True)
def _pull(points, side, clamp, index, dots, out, start, stop):
    base, share = np.empty(3, np.int64), np.empty((3, 2), points.dtype)
    for m in range(start, stop):
        point = points[m // points.shape[1], m % points.shape[1]]
        _cell(point, side, clamp, base, share)
        out[m] = 0
        for tap in range(12):
            if index[m, tap] >= 0:
                across, down = _axes(tap // 4)
                row, column = tap // 2 % 2, tap % 2
                out[m, across] += dots[m, tap] * share[down, row] * (column - 0.5)
                out[m, down] += dots[m, tap] * share[across, column] * (row - 0.5)
        for axis in range(3):
            place = ((point[axis] + 1) * side - 1) / 2
            held = clamp and (place <= 0 or place >= side - 1)
            out[m, axis] = 0 if held else out[m, axis] * side


def forward(planes: Tensor, points: Tensor, concat: bool, clamp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, then the texels and weights of their taps."""
    dtype = working_dtype(planes, points)
    index = torch.empty((*points.shape[:2], 12), dtype=torch.int32)
    weights = torch.empty(index.shape, dtype=dtype)
    given = [plain(points.to(dtype)), planes.shape[-1], clamp, index.view(-1, 12).numpy(), weights.view(-1, 12).numpy()]
    in_chunks(lambda start, stop: _locate(*given, start, stop), points.shape[0] * points.shape[1], CHUNK)
    samples = taps_cpu.gather(texels(planes), taps_of_a_sample(index, concat), taps_of_a_sample(weights, concat))
    return samples.view(sample_shape(planes, points, concat)).to(planes.dtype), index, weights


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor]:
    """Gradients of planes and points."""
    planes, points, concat, clamp = arguments
    dtype, rows = working_dtype(planes, points), texels(planes)
    index, weights = (taps_of_a_sample(taps, concat) for taps in residuals)
    assert gradients[0] is not None  # the only output
    above = gradients[0].reshape(index.shape[0], planes.shape[2]).to(dtype)
    dots = taps_cpu.dots(rows, index, above).view(-1, 12)
    pulled = torch.empty(points.shape, dtype=dtype)
    given = [plain(points.to(dtype)), planes.shape[-1], clamp, plain(residuals[0].view(-1, 12)), dots.numpy()]
    out = pulled.view(-1, 3).numpy()
    in_chunks(lambda start, stop: _pull(*given, out, start, stop), len(out), CHUNK)
    return as_planes(taps_cpu.scatter(above, index, weights, len(rows)), planes), pulled
