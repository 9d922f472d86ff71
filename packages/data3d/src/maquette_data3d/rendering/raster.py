"""A z-buffer in compiled code: which triangle is seen where, smooth normals, shadows, occlusion."""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import math

import numpy as np
from numba import njit

NEAR = 1e-3
_AROUND = 10  # looks around a sample for occlusion; a pixel has four samples


@njit(cache=True)
def visible(screen, inverse_depth, faces, height, width):
    """Nearest triangle a pixel.

    Args:
        screen: float64 [V, 2] pixel positions; inverse_depth: float64 [V], larger is nearer, <= 0 is behind.

    Returns:
        triangle int32 [H, W] (-1: none), inverse depth float32 [H, W], perspective-correct weights of the
        triangle's second and third corner float32 [H, W, 2].
    """
    triangle = np.full((height, width), -1, np.int32)
    depth = np.zeros((height, width), np.float32)
    weights = np.zeros((height, width, 2), np.float32)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        if inverse_depth[i] > 0.0 and inverse_depth[j] > 0.0 and inverse_depth[k] > 0.0:
            _fill(screen, inverse_depth, (i, j, k), f, triangle, depth, weights)
    return triangle, depth, weights


@njit(cache=True)
def _fill(screen, inverse_depth, corners, f, triangle, depth, weights):
    i, j, k = corners
    height, width = triangle.shape
    zi, zj, zk = inverse_depth[i], inverse_depth[j], inverse_depth[k]
    ax, ay, bx, by, cx, cy = (
        screen[i, 0],
        screen[i, 1],
        screen[j, 0],
        screen[j, 1],
        screen[k, 0],
        screen[k, 1],
    )
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0.0:
        return
    left, right = max(math.floor(min(ax, bx, cx)), 0), min(math.ceil(max(ax, bx, cx)), width - 1)
    top, bottom = max(math.floor(min(ay, by, cy)), 0), min(math.ceil(max(ay, by, cy)), height - 1)
    for y in range(top, bottom + 1):
        for x in range(left, right + 1):
            px, py = x + 0.5 - ax, y + 0.5 - ay
            v = (px * (cy - ay) - py * (cx - ax)) / area
            w = ((bx - ax) * py - (by - ay) * px) / area
            u = 1.0 - v - w
            if u < 0.0 or v < 0.0 or w < 0.0:
                continue
            z = u * zi + v * zj + w * zk
            if z > depth[y, x]:
                depth[y, x] = z
                triangle[y, x] = f
                weights[y, x, 0] = v * zj / z
                weights[y, x, 1] = w * zk / z


@njit(cache=True)
def corner_normals(face_normals, faces, count, crease):
    """Smooth normals float32 [F, 3, 3] a corner, over the vertex's faces within an angle.

    Args:
        face_normals: float64 [F, 3] scaled by area; count: number of vertices; crease: cosine of the angle
            beyond which an edge stays sharp.
    """
    start = np.zeros(count + 1, np.int64)
    for f in range(faces.shape[0]):
        for c in range(3):
            start[faces[f, c] + 1] += 1
    for v in range(count):
        start[v + 1] += start[v]
    place = start[:-1].copy()
    around = np.empty(faces.shape[0] * 3, np.int64)
    for f in range(faces.shape[0]):
        for c in range(3):
            around[place[faces[f, c]]] = f
            place[faces[f, c]] += 1
    lengths = np.sqrt((face_normals**2).sum(axis=1)) + 1e-30
    out = np.empty((faces.shape[0], 3, 3), np.float32)
    for f in range(faces.shape[0]):
        own = face_normals[f]
        for c in range(3):
            nx, ny, nz = 0.0, 0.0, 0.0
            for p in range(start[faces[f, c]], start[faces[f, c] + 1]):
                g = around[p]
                other = face_normals[g]
                dot = own[0] * other[0] + own[1] * other[1] + own[2] * other[2]
                if dot >= crease * lengths[f] * lengths[g]:
                    nx, ny, nz = nx + other[0], ny + other[1], nz + other[2]
            length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-30
            out[f, c, 0], out[f, c, 1], out[f, c, 2] = nx / length, ny / length, nz / length
    return out


@njit(cache=True)
def shadow(points, light, heights, low, scale, radius, bias):
    """Share of a soft light that is hidden, float32 [P], by a map of heights towards the light.

    Args:
        points: float64 [P, 3]; light: rotation [3, 3] whose last row points to the light; heights: float32
            [S, S] largest height a cell; low, scale: from light space to cells; radius: of the soft edge in
            cells; bias: height that shadows nothing.
    """
    hidden = np.zeros(points.shape[0], np.float32)
    size = heights.shape[0]
    for p in range(points.shape[0]):
        x = (light[0, 0] * points[p, 0] + light[0, 1] * points[p, 1] + light[0, 2] * points[p, 2] - low) * scale
        y = (light[1, 0] * points[p, 0] + light[1, 1] * points[p, 1] + light[1, 2] * points[p, 2] - low) * scale
        z = light[2, 0] * points[p, 0] + light[2, 1] * points[p, 1] + light[2, 2] * points[p, 2] + bias
        total, over = 0, 0
        for ring in range(1, 5):
            for spoke in range(8):
                angle = (spoke + 0.37 * ring) * math.pi / 4.0
                i = int(y + math.sin(angle) * radius * ring / 4.0)
                j = int(x + math.cos(angle) * radius * ring / 4.0)
                total += 1
                if 0 <= i < size and 0 <= j < size and heights[i, j] > z:
                    over += 1
        hidden[p] = over / total
    return hidden


@njit(cache=True)
def occlusion(depth, triangle, normals, focal, reach):
    """Share of the half space above a pixel that its neighbourhood hides, float32 [H, W].

    Args:
        depth: float32 [H, W] distance along the view; normals: float32 [H, W, 3] in camera space; focal: in
            pixels; reach: radius in scene units.
    """
    height, width = depth.shape
    out = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            if triangle[y, x] < 0:
                continue
            z = depth[y, x]
            px, py = (x + 0.5 - width / 2) * z / focal, -(y + 0.5 - height / 2) * z / focal
            blocked = 0.0
            twist = ((x * 7 + y * 13) % 16) * (math.pi / 32.0)
            for s in range(_AROUND):
                angle = s * 2.399963 + twist
                away = reach * focal / z * math.sqrt((s + 0.5) / _AROUND)
                i, j = int(y + away * math.sin(angle)), int(x + away * math.cos(angle))
                if i < 0 or j < 0 or i >= height or j >= width or triangle[i, j] < 0:
                    continue
                q = depth[i, j]
                dx, dy = (j + 0.5 - width / 2) * q / focal - px, -(i + 0.5 - height / 2) * q / focal - py
                dz = z - q
                length = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
                lift = (dx * normals[y, x, 0] + dy * normals[y, x, 1] + dz * normals[y, x, 2]) / length
                blocked += max(lift - 0.12, 0.0) * max(1.0 - length / (2.5 * reach), 0.0)
            out[y, x] = min(blocked / _AROUND * 2.6, 1.0)
    return out
