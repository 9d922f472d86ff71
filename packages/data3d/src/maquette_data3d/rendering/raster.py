"""A z-buffer in compiled code: which triangle is seen where, smooth normals, shadows, occlusion."""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import math

import numpy as np
from numba import njit

NEAR = 1e-3
_SLACK = 1e-9  # pixels: the two triangles of an edge round its crossing differently
_AROUND = 10  # looks around a sample for occlusion; a pixel has four samples


@njit(cache=True, nogil=True)
def project(vertices, matrix, focal, middle):
    """Pixel positions float64 [V, 2] and inverse depths float64 [V] of points.

    Args:
        vertices: float64 [V, 3]; matrix: world to camera [4, 4], z along the view; focal, middle: in pixels.

    Returns:
        Points nearer than `NEAR`, and those behind the camera, have inverse depth 0.
    """
    screen, inverse = np.empty((vertices.shape[0], 2)), np.empty(vertices.shape[0])
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        ahead = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3]
        inverse[i] = 1.0 / ahead if ahead > NEAR else 0.0
        scale = inverse[i] * focal
        screen[i, 0] = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3]) * scale + middle
        screen[i, 1] = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3]) * scale + middle
    return screen, inverse


@njit(cache=True, nogil=True)
def nearest(screen, inverse_depth, faces, height, width):
    """Nearest triangle a pixel: triangle int32 [H, W] (-1: none) and its inverse depth float32 [H, W].

    Args:
        screen: float64 [V, 2] pixel positions; inverse_depth: float64 [V], larger is nearer, <= 0 is behind.
            A triangle with a corner behind is left out. Of two equally near ones the first is seen.
    """
    triangle = np.full((height, width), -1, np.int32)
    depth = np.zeros((height, width), np.float32)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        if not (inverse_depth[i] > 0.0 and inverse_depth[j] > 0.0 and inverse_depth[k] > 0.0):
            continue
        ax, ay, bx, by = screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1]
        cx, cy = screen[k, 0], screen[k, 1]
        # Rows and columns whose middles lie in the triangle's box: most small triangles have none.
        top, bottom = max(math.ceil(min(ay, by, cy) - 0.5), 0), min(math.floor(max(ay, by, cy) - 0.5), height - 1)
        left, right = max(math.ceil(min(ax, bx, cx) - 0.5), 0), min(math.floor(max(ax, bx, cx) - 0.5), width - 1)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if top > bottom or left > right or area == 0.0:
            continue
        za, zb, zc = inverse_depth[i], inverse_depth[j] - inverse_depth[i], inverse_depth[k] - inverse_depth[i]
        across = (zb * (cy - ay) - zc * (by - ay)) / area
        down = (zc * (bx - ax) - zb * (cx - ax)) / area
        for y in range(top, bottom + 1):
            first, last = _span(ax, ay, bx, by, cx, cy, y + 0.5)
            if first > last:
                continue
            first, last = max(math.ceil(first - 0.5 - _SLACK), left), min(math.floor(last - 0.5 + _SLACK), right)
            z = za + (y + 0.5 - ay) * down + (0.5 - ax) * across
            for x in range(first, last + 1):
                here = np.float32(z + x * across)
                if here > depth[y, x]:
                    depth[y, x], triangle[y, x] = here, f
    return triangle, depth


@njit(cache=True, nogil=True, inline="always")
def _span(ax, ay, bx, by, cx, cy, y):
    """Where a horizontal line enters and leaves a triangle."""
    first, last = np.inf, -np.inf
    if (ay <= y) != (by <= y):
        x = ax + (bx - ax) * ((y - ay) / (by - ay))
        first, last = min(first, x), max(last, x)
    if (by <= y) != (cy <= y):
        x = bx + (cx - bx) * ((y - by) / (cy - by))
        first, last = min(first, x), max(last, x)
    if (cy <= y) != (ay <= y):
        x = cx + (ax - cx) * ((y - cy) / (ay - cy))
        first, last = min(first, x), max(last, x)
    return first, last


@njit(cache=True, nogil=True, inline="always")
def shares(screen, inverse_depth, faces, f, x, y):
    """Inverse depth at a point of a triangle, and the perspective-correct weights of its second and third corner."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    ax, ay = screen[i, 0], screen[i, 1]
    bx, by, cx, cy = screen[j, 0] - ax, screen[j, 1] - ay, screen[k, 0] - ax, screen[k, 1] - ay
    area = bx * cy - by * cx
    v = min(max(((x - ax) * cy - (y - ay) * cx) / area, 0.0), 1.0)
    w = min(max((bx * (y - ay) - by * (x - ax)) / area, 0.0), 1.0 - v)
    z = (1.0 - v - w) * inverse_depth[i] + v * inverse_depth[j] + w * inverse_depth[k]
    return z, v * inverse_depth[j] / z, w * inverse_depth[k] / z


@njit(cache=True, nogil=True)
def visible(screen, inverse_depth, faces, height, width):
    """As `nearest`, and the perspective-correct weights of the second and third corner float32 [H, W, 2]."""
    triangle, depth = nearest(screen, inverse_depth, faces, height, width)
    weights = np.zeros((height, width, 2), np.float32)
    for y in range(height):
        for x in range(width):
            if triangle[y, x] >= 0:
                _, v, w = shares(screen, inverse_depth, faces, triangle[y, x], x + 0.5, y + 0.5)
                weights[y, x, 0], weights[y, x, 1] = v, w
    return triangle, depth, weights


@njit(cache=True, nogil=True)
def welded(points):
    """For each point, int64 [V], the number of the first one in the same place.

    Args:
        points: float32 [V, 3], contiguous; -0 and 0 are different places.
    """
    bits = points.view(np.uint32)
    size = 16
    while size < 2 * points.shape[0]:
        size *= 2
    table, first = np.full(size, -1, np.int64), np.empty(points.shape[0], np.int64)
    for p in range(points.shape[0]):
        # Multipliers of the spatial hash of Teschner et al. 2003.
        x, y, z = np.uint64(bits[p, 0]), np.uint64(bits[p, 1]), np.uint64(bits[p, 2])
        mixed = (x * np.uint64(73856093)) ^ (y * np.uint64(19349663)) ^ (z * np.uint64(83492791))
        # The low bits of round numbers are all zero: the high ones have to come down.
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
        place = np.int64((mixed >> np.uint64(32)) & np.uint64(size - 1))
        while True:
            other = table[place]
            if other < 0:
                table[place] = p
                first[p] = p
                break
            if bits[other, 0] == bits[p, 0] and bits[other, 1] == bits[p, 1] and bits[other, 2] == bits[p, 2]:
                first[p] = other
                break
            place = (place + 1) & (size - 1)
    return first


def smooth_normals(vertices, faces, crease):
    """Smooth normals float32 [F, 3, 3] a corner; seams of colour or texture double vertices, and are not seen.

    Args:
        vertices: float64 [V, 3]; faces: int32 [F, 3]; crease: degrees beyond which an edge stays sharp.
    """
    if not len(faces):
        return np.zeros((0, 3, 3), np.float32)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    first = welded(np.ascontiguousarray(vertices.astype(np.float32) + np.float32(0)))
    return corner_normals(np.cross(b - a, c - a), first[faces], len(vertices), math.cos(math.radians(crease)))


@njit(cache=True, nogil=True)
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
    lengths = np.empty(faces.shape[0])
    for f in range(faces.shape[0]):  # written out: sums along an axis take seconds to compile
        x, y, z = face_normals[f, 0], face_normals[f, 1], face_normals[f, 2]
        lengths[f] = math.sqrt(x * x + y * y + z * z) + 1e-30
    out = np.empty((faces.shape[0], 3, 3), np.float32)
    for f in range(faces.shape[0]):
        ox, oy, oz = face_normals[f, 0], face_normals[f, 1], face_normals[f, 2]
        for c in range(3):
            nx, ny, nz = 0.0, 0.0, 0.0
            for p in range(start[faces[f, c]], start[faces[f, c] + 1]):
                g = around[p]
                x, y, z = face_normals[g, 0], face_normals[g, 1], face_normals[g, 2]
                if ox * x + oy * y + oz * z >= crease * lengths[f] * lengths[g]:
                    nx, ny, nz = nx + x, ny + y, nz + z
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
