"""The backward kernel of ``rasterise``: what each pixel's gradients say about the three corners of its face."""

# ruff: noqa: PLR0917  (kernels take plain positional arguments)
from __future__ import annotations

import triton
import triton.language as tl

from maquette_kernels.raster.rasterise.triton_shares import load_corner, shares_at
from maquette_kernels.triton_support import Compilation


@triton.jit
def _store_corner(values, place, dx, dy, dz, dw, px, py, mask):
    tl.store(values + place * 4, dx.to(tl.float32), mask=mask)
    tl.store(values + place * 4 + 1, dy.to(tl.float32), mask=mask)
    tl.store(values + place * 4 + 2, dz.to(tl.float32), mask=mask)
    tl.store(values + place * 4 + 3, (dw - px * dx - py * dy).to(tl.float32), mask=mask)


@triton.jit
def pull_kernel(
    clip, mesh, face_id, above, far, values, targets, pixels, vertices, nowhere, height, width,
    HAS_WEIGHTS: tl.constexpr, HAS_DEPTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients [pixel, corner, 4] of clip positions, and the vertex that each belongs to (``nowhere``: none)."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = pixel < pixels
    face = tl.load(face_id + pixel, mask=live, other=-1).to(tl.int64)
    hit = face >= 0
    i, xi, yi, zi, wi, px, py = load_corner(clip, mesh, face, 0, pixel, hit, vertices, height, width)
    j, xj, yj, zj, wj, px, py = load_corner(clip, mesh, face, 1, pixel, hit, vertices, height, width)
    k, xk, yk, zk, wk, px, py = load_corner(clip, mesh, face, 2, pixel, hit, vertices, height, width)
    raw_a, raw_b, raw_c, a, b, c, sound, total = shares_at(xi, yi, xj, yj, xk, yk)
    ga, gb, gc = tl.zeros_like(a), tl.zeros_like(a), tl.zeros_like(a)
    if HAS_WEIGHTS:
        ga = tl.load(above + pixel * 3, mask=hit, other=0.0).to(tl.float64)
        gb = tl.load(above + pixel * 3 + 1, mask=hit, other=0.0).to(tl.float64)
        gc = tl.load(above + pixel * 3 + 2, mask=hit, other=0.0).to(tl.float64)
    lift, depth = tl.zeros_like(a), tl.zeros_like(a)
    if HAS_DEPTH:
        ahead = tl.where(hit, a * wi + b * wj + c * wk, 1.0)
        depth = (a * zi + b * zj + c * zk) / ahead
        lift = tl.load(far + pixel, mask=hit, other=0.0).to(tl.float64) / ahead
    ga, gb, gc = ga + lift * (zi - depth * wi), gb + lift * (zj - depth * wj), gc + lift * (zk - depth * wk)
    along = ga * raw_a + gb * raw_b + gc * raw_c
    factor = tl.where(sound, 1.0 / total, 0.0)
    ga, gb, gc = (ga - along) * factor, (gb - along) * factor, (gc - along) * factor
    drop = -lift * depth
    place = pixel * 3
    _store_corner(values, place, gc * yj - gb * yk, gb * xk - gc * xj, lift * a, drop * a, px, py, live)
    _store_corner(values, place + 1, ga * yk - gc * yi, gc * xi - ga * xk, lift * b, drop * b, px, py, live)
    _store_corner(values, place + 2, gb * yi - ga * yj, ga * xj - gb * xi, lift * c, drop * c, px, py, live)
    tl.store(targets + place, tl.where(hit, i, nowhere), mask=live)
    tl.store(targets + place + 1, tl.where(hit, j, nowhere), mask=live)
    tl.store(targets + place + 2, tl.where(hit, k, nowhere), mask=live)


def pull_compilation() -> Compilation:
    """The kernel with gradients of weights and of depth."""
    pointers = {
        "clip": "*fp64", "mesh": "*i32", "face_id": "*i32", "above": "*fp32", "far": "*fp32", "values": "*fp32",
        "targets": "*i64",
    }  # fmt: skip
    types = {name: pointers.get(name, "i32") for name in pull_kernel.arg_names}
    return Compilation(pull_kernel, types, {"HAS_WEIGHTS": True, "HAS_DEPTH": True, "BLOCK": 128})
