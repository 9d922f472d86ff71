"""Compiled code of ``antialias``: the edge between two pixels, the blend, and the gradients of both."""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.raster.antialias.reference import THINNEST


@njit(cache=True, nogil=True, inline="always")
def _beside(xy, a, b, x, y):
    """Twice the signed area of the triangle of an edge and a point, in (1/256 pixel)^2."""
    ax, ay = np.int64(xy[a, 0]), np.int64(xy[a, 1])
    return (xy[b, 0] - ax) * (y - ay) - (xy[b, 1] - ay) * (x - ax)


@njit(cache=True, nogil=True)
def _leaves_by(xy, safe, faces, f, x, y, across, down):
    """The edge by which a step from (x, y) leaves a face, its number in the face (-1: none), and the face's turn."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    if not (safe[i] and safe[j] and safe[k]):
        return -1, 0
    area = _beside(xy, i, j, np.int64(xy[k, 0]), np.int64(xy[k, 1]))
    turn = 1 if area > 0 else -1
    best, nearest = -1, 2.0
    for c in range(3):
        a, b = faces[f, c], faces[f, (c + 1) % 3]
        inside, outside = turn * _beside(xy, a, b, x, y), turn * _beside(xy, a, b, x + across, y + down)
        if inside >= 0 and outside <= 0 and inside > outside and inside / (inside - outside) < nearest:
            best, nearest = c, inside / (inside - outside)
    return (best if area != 0 else -1), turn


@njit(cache=True, nogil=True, inline="always")
def _is_outline(xy, safe, faces, opposites, f, c, turn, axis):
    """Whether an edge is steep enough for its direction, and the face on its other side is hidden or missing."""
    a, b, o = faces[f, c], faces[f, (c + 1) % 3], opposites[f, c]
    run, rise = abs(xy[b, axis] - xy[a, axis]), abs(xy[b, 1 - axis] - xy[a, 1 - axis])
    if rise < run or (axis == 1 and rise == run):
        return False
    return o < 0 or (safe[o] and turn * _beside(xy, a, b, np.int64(xy[o, 0]), np.int64(xy[o, 1])) >= 0)


@njit(cache=True, nogil=True, inline="always")
def _on_screen(clip, v, axis, size):
    return (clip[v, axis] / clip[v, 3] + 1.0) * (0.5 * size)


@njit(cache=True, nogil=True)
def find_edges(face_id, depth, clip, xy, safe, faces, opposites, shift, edge, first, last):
    """Where an edge crosses between each pixel and the next, into ``shift`` and ``edge`` [2, H, W] of some rows."""
    height, width = face_id.shape
    for y in range(first, last):
        for x in range(width):
            for axis in range(2):
                u, v = x + 1 - axis, y + axis
                if u >= width or v >= height or face_id[y, x] == face_id[v, u]:
                    continue
                p, q = face_id[y, x], face_id[v, u]
                front = p >= 0 and (q < 0 or depth[y, x] <= depth[v, u])
                f, step = (p, 256) if front else (q, -256)
                from_x, from_y = (x, y) if front else (u, v)
                across, down = (0, step) if axis else (step, 0)
                c, turn = _leaves_by(xy, safe, faces, f, 256 * from_x + 128, 256 * from_y + 128, across, down)
                if c < 0 or not _is_outline(xy, safe, faces, opposites, f, c, turn, axis):
                    continue
                a, b = faces[f, c], faces[f, (c + 1) % 3]
                sizes = (width, height) if axis == 0 else (height, width)
                low, high = _on_screen(clip, a, 1 - axis, sizes[1]), _on_screen(clip, b, 1 - axis, sizes[1])
                if abs(high - low) <= THINNEST:
                    continue
                at, between = (y + 0.5, x + 1.0) if axis == 0 else (x + 0.5, y + 1.0)
                start, stop = _on_screen(clip, a, axis, sizes[0]), _on_screen(clip, b, axis, sizes[0])
                crossing = start + (at - low) / (high - low) * (stop - start)
                shift[axis, y, x] = min(max(crossing - between, -0.5), 0.5)
                edge[axis, y, x] = 3 * f + c


@njit(cache=True, nogil=True)
def blend(image, shift, out, first, last):
    """Colours with what crossing edges bring from the four neighbours, for some rows of ``out`` [H, W, C]."""
    height, width, channels = image.shape
    for y in range(first, last):
        for x in range(width):
            right = max(-shift[0, y, x], 0.0) if x + 1 < width else 0.0
            below = max(-shift[1, y, x], 0.0) if y + 1 < height else 0.0
            left = max(shift[0, y, x - 1], 0.0) if x else 0.0
            above = max(shift[1, y - 1, x], 0.0) if y else 0.0
            for c in range(channels):
                own = image[y, x, c]
                total = own
                if right > 0.0:
                    total += right * (image[y, x + 1, c] - own)
                if below > 0.0:
                    total += below * (image[y + 1, x, c] - own)
                if left > 0.0:
                    total += left * (image[y, x - 1, c] - own)
                if above > 0.0:
                    total += above * (image[y - 1, x, c] - own)
                out[y, x, c] = total


@njit(cache=True, nogil=True)
def pull_image(upstream, shift, out, first, last):
    """Gradient of the picture for some rows: what a pixel gave to others comes back, what it took is taken off."""
    height, width, channels = upstream.shape
    for y in range(first, last):
        for x in range(width):
            right = shift[0, y, x] if x + 1 < width else 0.0
            below = shift[1, y, x] if y + 1 < height else 0.0
            left = -shift[0, y, x - 1] if x else 0.0
            above = -shift[1, y - 1, x] if y else 0.0
            kept = 1.0 + min(right, 0.0) + min(below, 0.0) + min(left, 0.0) + min(above, 0.0)
            for c in range(channels):
                total = kept * upstream[y, x, c]
                if right > 0.0:
                    total += right * upstream[y, x + 1, c]
                if below > 0.0:
                    total += below * upstream[y + 1, x, c]
                if left > 0.0:
                    total += left * upstream[y, x - 1, c]
                if above > 0.0:
                    total += above * upstream[y - 1, x, c]
                out[y, x, c] = total


@njit(cache=True, nogil=True)
def pull_positions(image, upstream, shift, edge, clip, faces, out):
    """Adds a picture's gradients of clip positions [V, 4]: an edge that moves moves the colours on its two sides."""
    height, width, channels = image.shape
    for axis in range(2):
        sizes = (width, height) if axis == 0 else (height, width)
        for y in range(height):
            for x in range(width):
                if edge[axis, y, x] < 0:
                    continue
                u, v = x + 1 - axis, y + axis
                f, c = edge[axis, y, x] // 3, edge[axis, y, x] % 3
                slope = 0.0
                for channel in range(channels):
                    taker = upstream[v, u, channel] if shift[axis, y, x] > 0.0 else upstream[y, x, channel]
                    slope += taker * (image[y, x, channel] - image[v, u, channel])
                a, b = faces[f, c], faces[f, (c + 1) % 3]
                low, high = _on_screen(clip, a, 1 - axis, sizes[1]), _on_screen(clip, b, 1 - axis, sizes[1])
                start, stop = _on_screen(clip, a, axis, sizes[0]), _on_screen(clip, b, axis, sizes[0])
                share = ((x if axis else y) + 0.5 - low) / (high - low)
                lean = (stop - start) / (high - low)
                _pull_end(clip, a, axis, sizes, slope * (1.0 - share), lean, out)
                _pull_end(clip, b, axis, sizes, slope * share, lean, out)


@njit(cache=True, nogil=True, inline="always")
def _pull_end(clip, v, axis, sizes, along, lean, out):
    """Adds the gradient of one end of an edge, ``along`` the direction of the pair and across it."""
    w = clip[v, 3]
    first, second = along * 0.5 * sizes[0] / w, -along * lean * 0.5 * sizes[1] / w
    out[v, axis] += first
    out[v, 1 - axis] += second
    out[v, 3] -= (first * clip[v, axis] + second * clip[v, 1 - axis]) / w
