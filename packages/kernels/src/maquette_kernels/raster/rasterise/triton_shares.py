"""Device functions of ``rasterise``: the corners of a pixel's face and their weights."""

# ruff: noqa: PLR0917  (device functions take plain positional arguments)
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_corner(clip, mesh, face, corner, pixel, hit, vertices, height, width):
    """A corner's vertex, its x and y moved so that the pixel's ray is the axis, its z and w, and the ray (px, py)."""
    column, row = pixel % width, pixel // width % height
    px = (column * 2 + 1).to(tl.float64) / width - 1.0
    py = (row * 2 + 1).to(tl.float64) / height - 1.0
    vertex = tl.load(mesh + face * 3 + corner, mask=hit, other=0).to(tl.int64)
    vertex += pixel // width // height * vertices
    x = tl.load(clip + vertex * 4, mask=hit, other=0.0)
    y = tl.load(clip + vertex * 4 + 1, mask=hit, other=0.0)
    z = tl.load(clip + vertex * 4 + 2, mask=hit, other=0.0)
    w = tl.load(clip + vertex * 4 + 3, mask=hit, other=1.0)
    return vertex, x - px * w, y - py * w, z, w, px, py


@triton.jit
def shares_at(xi, yi, xj, yj, xk, yk):
    """Weights of three corners as they come and kept within the face; whether they are sound; the sum of areas."""
    a, b, c = xj * yk - yj * xk, xk * yi - yk * xi, xi * yj - yi * xj
    total = a + b + c
    flat = total == 0.0
    total = tl.where(flat, 1.0, total)
    a, b, c = a / total, b / total, c / total
    kept_a, kept_b, kept_c = tl.maximum(a, 0.0), tl.maximum(b, 0.0), tl.maximum(c, 0.0)
    kept = tl.maximum(kept_a + kept_b + kept_c, 1e-30)
    third = 1.0 / 3.0
    kept_a = tl.where(flat, third, kept_a / kept)
    kept_b = tl.where(flat, third, kept_b / kept)
    kept_c = tl.where(flat, third, kept_c / kept)
    sound = (a >= -0.5) & (b >= -0.5) & (c >= -0.5) & (flat == 0)
    return a, b, c, kept_a, kept_b, kept_c, sound, total
