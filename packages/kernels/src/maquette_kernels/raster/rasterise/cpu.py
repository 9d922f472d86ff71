"""``rasterise`` in compiled code: triangles sorted into bands of rows, bands drawn in threads, scanline by scanline."""

# Implementations take all arguments by position, as torch's operators do; so do compiled functions.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.raster.clipping import visible_triangles
from maquette_kernels.raster.rasterise.resolve import pull, resolve
from maquette_kernels.raster.screen import DEPTH_STEPS, FARTHEST
from maquette_kernels.threads import in_chunks

_BAND = 32
_EMPTY = np.int64(FARTHEST + 1) << 32
_WIDE = 12
"""Pixels across from which finding a row's ends by division is faster than testing each pixel."""


def forward(positions: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, depth and face of each pixel."""
    batch = positions.shape[0]
    face_id = torch.empty(batch, height, width, dtype=torch.int32)
    weights = torch.empty(batch, height, width, 3, dtype=positions.dtype)
    depth = torch.empty(batch, height, width, dtype=positions.dtype)
    faces = faces.contiguous()
    for b in range(batch):
        clip = positions[b].detach().double().contiguous()
        _draw(clip, faces, face_id[b].numpy(), weights[b].numpy(), depth[b].numpy())
    return weights, depth, face_id


def _draw(clip: Tensor, faces: Tensor, face_id: Any, weights: Any, depth: Any) -> None:
    """One picture, into the last three arrays."""
    height, width = face_id.shape
    screen, triangles = visible_triangles(clip, faces, height, width)
    xy, z, safe = (part.numpy() for part in screen)
    corners, owners = (part.numpy() for part in triangles)
    starts, items = bands(xy, safe, corners, height, width, _BAND)
    keys = np.empty((height, width), np.int64)
    mesh, points = faces.numpy(), clip.numpy()

    def draw(first: int, last: int) -> None:
        keys[first:last] = _EMPTY
        band = items[starts[first // _BAND] : starts[first // _BAND + 1]]
        draw_band(xy, z, corners, owners, band, keys, first, last)
        resolve(points, mesh, keys, face_id, weights, depth, first, last)

    in_chunks(draw, height, _BAND)


@njit(cache=True, nogil=True, inline="always")
def _box(xy, safe, corners, t):
    """First and last column and row whose middles may lie in a triangle; none (last < first) where it is not safe."""
    i, j, k = corners[t, 0], corners[t, 1], corners[t, 2]
    if not (safe[i] and safe[j] and safe[k]):
        return 0, -1, 0, -1
    left, right = min(xy[i, 0], xy[j, 0], xy[k, 0]), max(xy[i, 0], xy[j, 0], xy[k, 0])
    top, bottom = min(xy[i, 1], xy[j, 1], xy[k, 1]), max(xy[i, 1], xy[j, 1], xy[k, 1])
    return (left + 127) >> 8, (right - 128) >> 8, (top + 127) >> 8, (bottom - 128) >> 8


@njit(cache=True, nogil=True)
def bands(xy, safe, corners, height, width, rows):
    """Triangles that touch each band of rows: starts int64 [bands + 1] and triangles int32, in ascending order."""
    count = (height + rows - 1) // rows
    starts = np.zeros(count + 2, np.int64)
    first, last = np.empty(corners.shape[0], np.int32), np.empty(corners.shape[0], np.int32)
    for t in range(corners.shape[0]):
        left, right, top, bottom = _box(xy, safe, corners, t)
        top, bottom = max(top, 0), min(bottom, height - 1)
        seen = max(left, 0) <= min(right, width - 1) and top <= bottom
        first[t], last[t] = (top // rows, bottom // rows) if seen else (0, -1)
        for band in range(first[t], last[t] + 1):
            starts[band + 2] += 1
    for band in range(count + 1):
        starts[band + 1] += starts[band]
    items = np.empty(starts[count + 1], np.int32)
    for t in range(corners.shape[0]):
        for band in range(first[t], last[t] + 1):
            items[starts[band + 1]] = t
            starts[band + 1] += 1
    return starts[: count + 1], items


@njit(cache=True, nogil=True, inline="always")
def _edge(ax, ay, bx, by):
    """Coefficients of ``across * column + down * row + constant``, which is >= 0 at pixels that an edge keeps.

    A point on the edge is kept where the edge is a top or a left one, so that one of two neighbours keeps it: the
    last number is what the constant was lowered by to lose it.
    """
    dx, dy = bx - ax, by - ay
    mine = dy < 0 or (dy == 0 and dx > 0)
    less = 0 if mine else 1
    return -256 * dy, 256 * dx, dy * (ax - 128) - dx * (ay - 128) - less, less


@njit(cache=True, nogil=True, inline="always")
def _ends(value, step, first, last):
    """Columns of [first, last] where ``value + column * step >= 0``."""
    if step > 0:
        return max(first, -(value // step)), last
    if step < 0:
        return first, min(last, value // -step)
    return (first, last) if value >= 0 else (first, first - 1)


@njit(cache=True, nogil=True)
def draw_band(xy, z, corners, owners, items, keys, first_row, last_row):
    """Draws triangles into rows of ``keys``, where the upper half is the depth and the lower one the face."""
    width = keys.shape[1]
    always = np.ones(xy.shape[0], np.bool_)
    for t in items:
        i, j, k = corners[t, 0], corners[t, 1], corners[t, 2]
        ax, ay, bx, by = np.int64(xy[i, 0]), np.int64(xy[i, 1]), np.int64(xy[j, 0]), np.int64(xy[j, 1])
        cx, cy = np.int64(xy[k, 0]), np.int64(xy[k, 1])
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        if area < 0:
            j, k, bx, by, cx, cy, area = k, j, cx, cy, bx, by, -area
        za, zb, zc = z[i], (z[j] - z[i]) / area, (z[k] - z[i]) / area
        left, right, top, bottom = _box(xy, always, corners, t)
        left, right, top, bottom = max(left, 0), min(right, width - 1), max(top, first_row), min(bottom, last_row - 1)
        a0, d0, c0, less0 = _edge(ax, ay, bx, by)
        a1, d1, c1, _ = _edge(bx, by, cx, cy)
        a2, d2, c2, less2 = _edge(cx, cy, ax, ay)
        za += less2 * zb + less0 * zc
        owner = np.int64(owners[t]) if owners.shape[0] else np.int64(t)
        for y in range(top, bottom + 1):
            v0, v1, v2, x0, x1 = d0 * y + c0, d1 * y + c1, d2 * y + c2, left, right
            if right - left > _WIDE:
                x0, x1 = _ends(v0, a0, x0, x1)
                x0, x1 = _ends(v1, a1, x0, x1)
                x0, x1 = _ends(v2, a2, x0, x1)
            for x in range(x0, x1 + 1):
                e0, e1, e2 = v0 + x * a0, v1 + x * a1, v2 + x * a2
                if (e0 | e1 | e2) >= 0:
                    _test(keys, y, x, za + (e2 * zb + e0 * zc), owner)


@njit(cache=True, nogil=True, inline="always")
def _test(keys, y, x, depth, owner):
    steps = max(np.int64(np.floor((depth + 1.0) * DEPTH_STEPS + 0.5)), np.int64(0))
    key = (steps << 32) | owner
    if steps <= FARTHEST and key < keys[y, x]:
        keys[y, x] = key


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor]:
    """Gradient of the positions: pixels add to their face's corners in order, picture by picture."""
    positions, faces, _, _ = arguments
    found = torch.zeros(positions.shape, dtype=torch.float64)
    seen = residuals[0].numpy()
    mesh, out = faces.contiguous().numpy(), found.numpy()
    clip = positions.detach().double().contiguous().numpy()
    above, far = gradients[0], gradients[1]
    has_weights, has_depth = above is not None, far is not None
    nothing = positions.new_zeros(())
    above = (nothing.expand(*seen.shape, 3) if above is None else above).detach().numpy()
    far = (nothing.expand(seen.shape) if far is None else far).detach().numpy()
    if not (has_weights or has_depth):
        return (found.to(positions.dtype),)

    def one(first: int, last: int) -> None:
        for b in range(first, last):
            pull(clip[b], mesh, seen[b], above[b], far[b], out[b])

    in_chunks(one, len(seen), 1)
    return (found.to(positions.dtype),)
