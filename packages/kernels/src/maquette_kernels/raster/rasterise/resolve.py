"""Compiled code for what is known at a pixel once its face is: weights of the corners, depth, and their gradients."""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.raster.screen import FAR_DEPTH, FARTHEST


@njit(cache=True, nogil=True, inline="always")
def _corner_areas(clip, i, j, k, px, py, areas):
    """Three determinants whose shares are the weights of the corners at the ray through (px, py)."""
    xi, yi = clip[i, 0] - px * clip[i, 3], clip[i, 1] - py * clip[i, 3]
    xj, yj = clip[j, 0] - px * clip[j, 3], clip[j, 1] - py * clip[j, 3]
    xk, yk = clip[k, 0] - px * clip[k, 3], clip[k, 1] - py * clip[k, 3]
    areas[0], areas[1], areas[2] = xj * yk - yj * xk, xk * yi - yk * xi, xi * yj - yi * xj


@njit(cache=True, nogil=True, inline="always")
def _shares(areas, weights, raw):
    """Weights within the face from areas; whether they are the face's own, not those of a face thinner than rounding.

    The seen face is that of corners rounded to 1/256 of a pixel, so a pixel may lie slightly beside the true one.
    """
    total = areas[0] + areas[1] + areas[2]
    if total == 0.0:
        weights[0] = weights[1] = weights[2] = 1.0 / 3.0
        return False, 1.0
    inverse = 1.0 / total
    raw[0], raw[1], raw[2] = areas[0] * inverse, areas[1] * inverse, areas[2] * inverse
    weights[0], weights[1], weights[2] = raw[0], raw[1], raw[2]
    if min(raw[0], raw[1], raw[2]) < 0.0:
        weights[0], weights[1], weights[2] = max(raw[0], 0.0), max(raw[1], 0.0), max(raw[2], 0.0)
        kept = max(weights[0] + weights[1] + weights[2], 1e-30)
        weights[0], weights[1], weights[2] = weights[0] / kept, weights[1] / kept, weights[2] / kept
    return raw[0] >= -0.5 and raw[1] >= -0.5 and raw[2] >= -0.5, total


@njit(cache=True, nogil=True)
def resolve(clip, faces, keys, face_id, out, depth, first, last):
    """Face, weights and depth of each pixel of some rows, into the arrays before the last two."""
    height, width = keys.shape
    areas, weights, raw = np.empty(3), np.empty(3), np.empty(3)
    for y in range(first, last):
        py = (2 * y + 1) / height - 1.0
        for x in range(width):
            key = keys[y, x]
            if key >> 32 > FARTHEST:
                face_id[y, x], depth[y, x] = -1, FAR_DEPTH
                out[y, x, 0] = out[y, x, 1] = out[y, x, 2] = 0.0
                continue
            f = key & 0xFFFFFFFF
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            _corner_areas(clip, i, j, k, (2 * x + 1) / width - 1.0, py, areas)
            _shares(areas, weights, raw)
            a, b, c = weights[0], weights[1], weights[2]
            face_id[y, x] = f
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = a, b, c
            w = a * clip[i, 3] + b * clip[j, 3] + c * clip[k, 3]
            depth[y, x] = (a * clip[i, 2] + b * clip[j, 2] + c * clip[k, 2]) / w


@njit(cache=True, nogil=True)
def pull(clip, faces, face_id, above, far, out):
    """Adds one picture's gradients of weights [H, W, 3] and depth [H, W] to those of clip positions [V, 4]."""
    height, width = face_id.shape
    areas, weights, raw, corner = np.empty(3), np.empty(3), np.empty(3), np.empty(3, np.int64)
    upstream = np.empty(3)
    for y in range(height):
        py = (2 * y + 1) / height - 1.0
        for x in range(width):
            f = face_id[y, x]
            if f < 0:
                continue
            px = (2 * x + 1) / width - 1.0
            corner[0], corner[1], corner[2] = faces[f, 0], faces[f, 1], faces[f, 2]
            _corner_areas(clip, corner[0], corner[1], corner[2], px, py, areas)
            sound, total = _shares(areas, weights, raw)
            z, w = 0.0, 0.0
            for c in range(3):
                z, w = z + weights[c] * clip[corner[c], 2], w + weights[c] * clip[corner[c], 3]
            lift, along = far[y, x] / w, 0.0
            for c in range(3):
                upstream[c] = above[y, x, c] + lift * (clip[corner[c], 2] - z / w * clip[corner[c], 3])
                out[corner[c], 2] += lift * weights[c]
                out[corner[c], 3] -= lift * weights[c] * z / w
                along += upstream[c] * raw[c]
            if sound:
                for c in range(3):
                    upstream[c] = (upstream[c] - along) / total
                _pull_areas(clip, corner, px, py, upstream, out)


@njit(cache=True, nogil=True, inline="always")
def _pull_areas(clip, corner, px, py, upstream, out):
    """Adds gradients of the three areas to those of the corners."""
    for c in range(3):
        after, before = corner[(c + 1) % 3], corner[(c + 2) % 3]
        up_before, up_after = upstream[(c + 2) % 3], upstream[(c + 1) % 3]
        x_after, y_after = clip[after, 0] - px * clip[after, 3], clip[after, 1] - py * clip[after, 3]
        x_before, y_before = clip[before, 0] - px * clip[before, 3], clip[before, 1] - py * clip[before, 3]
        dx, dy = up_before * y_after - up_after * y_before, up_after * x_before - up_before * x_after
        out[corner[c], 0] += dx
        out[corner[c], 1] += dy
        out[corner[c], 3] -= px * dx + py * dy
