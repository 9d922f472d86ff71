"""``rasterise`` in Triton: triangles cut into tiles, tiles drawn with an atomic minimum, pixels resolved.

What is drawn is one whole number a pixel, the depth above the face, so the smallest does not depend on who comes first.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.raster.clipping import visible_triangles
from maquette_kernels.raster.rasterise.triton_pull import pull_compilation, pull_kernel
from maquette_kernels.raster.rasterise.triton_shares import load_corner, shares_at
from maquette_kernels.raster.screen import DEPTH_STEPS, FAR_DEPTH, FARTHEST
from maquette_kernels.segment_sum import compilations as sum_compilations
from maquette_kernels.segment_sum import segment_sum
from maquette_kernels.triton_support import Compilation, interpreting

_TILE = tl.constexpr(8)
_STEPS = tl.constexpr(DEPTH_STEPS)
_FARTHEST = tl.constexpr(FARTHEST)
_FAR_DEPTH = tl.constexpr(FAR_DEPTH)


@triton.jit
def _point(xy, vertex, live):
    x = tl.load(xy + vertex * 2, mask=live, other=0).to(tl.int64)
    return x, tl.load(xy + vertex * 2 + 1, mask=live, other=0).to(tl.int64)


@triton.jit
def _triangle(xy, safe, corners, t, live):
    """Corners of triangles on the screen in 1/256 of a pixel, int64, and whether all may be drawn."""
    i = tl.load(corners + t * 3, mask=live, other=0).to(tl.int64)
    j = tl.load(corners + t * 3 + 1, mask=live, other=0).to(tl.int64)
    k = tl.load(corners + t * 3 + 2, mask=live, other=0).to(tl.int64)
    drawn = live & (tl.load(safe + i, mask=live, other=0) != 0) & (tl.load(safe + j, mask=live, other=0) != 0)
    drawn = drawn & (tl.load(safe + k, mask=live, other=0) != 0)
    ax, ay = _point(xy, i, live)
    bx, by = _point(xy, j, live)
    cx, cy = _point(xy, k, live)
    return i, j, k, ax, ay, bx, by, cx, cy, drawn


@triton.jit
def _range(a, b, c, size):
    """First and last row (or column) of the picture whose middle may lie between three positions."""
    low, high = tl.minimum(tl.minimum(a, b), c), tl.maximum(tl.maximum(a, b), c)
    return tl.maximum((low + 127) >> 8, 0), tl.minimum((high - 128) >> 8, size - 1)


@triton.jit
def count_kernel(xy, safe, corners, tiles, triangles, height, width, BLOCK: tl.constexpr):
    """How many tiles each triangle's box has."""
    t = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = t < triangles
    _i, _j, _k, ax, ay, bx, by, cx, cy, drawn = _triangle(xy, safe, corners, t, live)
    left, right = _range(ax, bx, cx, width)
    top, bottom = _range(ay, by, cy, height)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    seen = drawn & (left <= right) & (top <= bottom) & (area != 0)
    count = ((right - left) // _TILE + 1) * ((bottom - top) // _TILE + 1)
    tl.store(tiles + t, tl.where(seen, count, 0), mask=live)


@triton.jit
def _beside(ax, ay, bx, by, x, y):
    """Twice the signed area between an edge and points, and whether the points are on the kept side of the edge."""
    dx, dy = bx - ax, by - ay
    value = dx[:, None] * (y - ay[:, None]) - dy[:, None] * (x - ax[:, None])
    mine = (dy < 0) | ((dy == 0) & (dx > 0))
    return value, (value > 0) | ((value == 0) & mine[:, None])


@triton.jit
def draw_kernel(
    xy, z, safe, corners, owners, which, firsts, keys, pairs, faces, height, width,
    OWNED: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Draws tiles of triangles: an atomic minimum of depth and face at each covered pixel."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    live = pair < pairs
    t = tl.load(which + pair, mask=live, other=0)
    i, j, k, ax, ay, bx, by, cx, cy, drawn = _triangle(xy, safe, corners, t, live)
    left, right = _range(ax, bx, cx, width)
    top, bottom = _range(ay, by, cy, height)
    inner = pair - tl.load(firsts + t, mask=live, other=0)
    across = tl.maximum((right - left) // _TILE + 1, 1)
    lane = tl.arange(0, _TILE * _TILE)[None, :]
    column = (left + inner % across * _TILE)[:, None] + lane % _TILE
    row = (top + inner // across * _TILE)[:, None] + lane // _TILE
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    turned = area < 0
    bx, cx, by, cy = (
        tl.where(turned, cx, bx),
        tl.where(turned, bx, cx),
        tl.where(turned, cy, by),
        tl.where(turned, by, cy),
    )
    j, k = tl.where(turned, k, j), tl.where(turned, j, k)
    x, y = column * 256 + 128, row * 256 + 128
    to_c, in_0 = _beside(ax, ay, bx, by, x, y)
    _to_a, in_1 = _beside(bx, by, cx, cy, x, y)
    to_b, in_2 = _beside(cx, cy, ax, ay, x, y)
    covered = in_0 & in_1 & in_2 & drawn[:, None] & (column <= right[:, None]) & (row <= bottom[:, None])
    za = tl.load(z + i, mask=drawn, other=0.0)
    size = tl.where(area == 0, 1, tl.abs(area)).to(tl.float64)
    zb = ((tl.load(z + j, mask=drawn, other=0.0) - za) / size)[:, None]
    zc = ((tl.load(z + k, mask=drawn, other=0.0) - za) / size)[:, None]
    depth = za[:, None] + (to_b.to(tl.float64) * zb + to_c.to(tl.float64) * zc)
    steps = tl.maximum(tl.floor((depth + 1.0) * _STEPS + 0.5).to(tl.int64), 0)
    owner = tl.load(owners + t, mask=live, other=0).to(tl.int64) if OWNED else t
    key = (steps << 32) | (owner % faces)[:, None]
    place = ((owner // faces)[:, None] * height + row) * width + column
    tl.atomic_min(keys + place, key, mask=covered & (steps <= _FARTHEST), sem="relaxed")


@triton.jit
def resolve_kernel(
    clip, mesh, keys, weights, depth, face_id, pixels, vertices, height, width, BLOCK: tl.constexpr
):  # fmt: skip
    """Weights, depth and face of each pixel from what was drawn."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = pixel < pixels
    key = tl.load(keys + pixel, mask=live, other=0)
    hit = live & ((key >> 32) <= _FARTHEST)
    face = key & 0xFFFFFFFF
    _i, xi, yi, zi, wi, _px, _py = load_corner(clip, mesh, face, 0, pixel, hit, vertices, height, width)
    _j, xj, yj, zj, wj, _px, _py = load_corner(clip, mesh, face, 1, pixel, hit, vertices, height, width)
    _k, xk, yk, zk, wk, _px, _py = load_corner(clip, mesh, face, 2, pixel, hit, vertices, height, width)
    _ra, _rb, _rc, a, b, c, _sound, _total = shares_at(xi, yi, xj, yj, xk, yk)
    ahead = tl.where(hit, a * wi + b * wj + c * wk, 1.0)
    far = tl.where(hit, (a * zi + b * zj + c * zk) / ahead, _FAR_DEPTH)
    tl.store(weights + pixel * 3, tl.where(hit, a, 0.0), mask=live)
    tl.store(weights + pixel * 3 + 1, tl.where(hit, b, 0.0), mask=live)
    tl.store(weights + pixel * 3 + 2, tl.where(hit, c, 0.0), mask=live)
    tl.store(depth + pixel, far, mask=live)
    tl.store(face_id + pixel, tl.where(hit, face, -1).to(tl.int32), mask=live)


def forward(positions: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, depth and face of each pixel."""
    batch, vertices, _ = positions.shape
    shape, faces = (batch, height, width), faces.contiguous()
    keys = faces.new_full(shape, (FARTHEST + 1) << 32, dtype=torch.int64)
    weights, depth, face_id = positions.new_empty(*shape, 3), positions.new_empty(shape), faces.new_empty(shape)
    clip = positions.detach().double().reshape(-1, 4)
    if len(faces):
        _draw(clip, _everywhere(faces, batch, vertices), keys, len(faces))
    if keys.numel():
        block = _block(keys.numel())
        resolve_kernel[(triton.cdiv(keys.numel(), block),)](
            clip, faces, keys, weights, depth, face_id, keys.numel(), vertices, height, width, BLOCK=block
        )
    return weights, depth, face_id


def _everywhere(faces: Tensor, batch: int, vertices: int) -> Tensor:
    """The faces once for each picture, [B * F, 3], into the vertices of all pictures."""
    first = torch.arange(batch, dtype=faces.dtype, device=faces.device) * vertices
    return (faces + first[:, None, None]).reshape(-1, 3)


def _draw(clip: Tensor, faces: Tensor, keys: Tensor, count: int) -> None:
    """All pictures, into ``keys`` [B, H, W]; ``count`` faces are of one picture."""
    _, height, width = keys.shape
    (xy, z, safe), (corners, owners) = visible_triangles(clip, faces, height, width)
    safe = safe.to(torch.int8)
    tiles = torch.empty(len(corners), dtype=torch.int64, device=clip.device)
    if not len(corners):
        return
    block = _block(len(corners))
    count_kernel[(triton.cdiv(len(corners), block),)](
        xy, safe, corners, tiles, len(corners), height, width, BLOCK=block
    )
    ends = tiles.cumsum(0)
    pairs = int(ends[-1])
    if not pairs:
        return
    which = torch.repeat_interleave(tiles, output_size=pairs)
    block = 64 if interpreting() else 4
    draw_kernel[(triton.cdiv(pairs, block),)](
        xy, z, safe, corners, owners if len(owners) else corners, which, ends - tiles, keys, pairs, count,
        height, width, OWNED=len(owners) > 0, PAIRS=block,
    )  # fmt: skip


def _block(count: int) -> int:
    return min(triton.next_power_of_2(count), 4096) if interpreting() else 128


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None]:
    """Gradient of the positions."""
    positions, faces, height, width = arguments
    face_id, above, far = residuals[0], gradients[0], gradients[1]
    if not face_id.numel() or not len(faces) or (above is None and far is None):
        return (None,)
    batch, vertices, _ = positions.shape
    clip, faces = positions.detach().double().reshape(-1, 4), faces.contiguous()
    values = torch.empty(face_id.numel() * 3, 4, dtype=torch.float32, device=clip.device)
    targets = torch.empty(face_id.numel() * 3, dtype=torch.int64, device=clip.device)
    block = _block(face_id.numel())
    pull_kernel[(triton.cdiv(face_id.numel(), block),)](
        clip, faces, face_id, clip if above is None else above.contiguous(), clip if far is None else far.contiguous(),
        values, targets, face_id.numel(), vertices, batch * vertices, height, width,
        HAS_WEIGHTS=above is not None, HAS_DEPTH=far is not None, BLOCK=block,
    )  # fmt: skip
    return (segment_sum(values, targets, batch * vertices).view(positions.shape),)


def compilations() -> list[Compilation]:
    """Every kernel as it runs on pictures of float32 meshes."""
    pointers = {
        "clip": "*fp64", "mesh": "*i32", "keys": "*i64", "weights": "*fp32", "depth": "*fp32", "face_id": "*i32",
        "xy": "*i32", "z": "*fp64", "safe": "*i8", "corners": "*i32", "owners": "*i32", "tiles": "*i64",
        "which": "*i64", "firsts": "*i64",
    }  # fmt: skip
    chosen: list[tuple[Any, dict[str, Any]]] = [
        (count_kernel, {"BLOCK": 128}),
        (draw_kernel, {"OWNED": False, "PAIRS": 4}),
        (draw_kernel, {"OWNED": True, "PAIRS": 4}),
        (resolve_kernel, {"BLOCK": 128}),
    ]
    found = []
    for kernel, constants in chosen:
        types = {name: pointers.get(name, "i32") for name in kernel.arg_names}
        found.append(Compilation(kernel, types, constants))
    return [*found, pull_compilation(), *sum_compilations(4)]
