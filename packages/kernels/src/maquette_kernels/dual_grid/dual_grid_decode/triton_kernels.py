"""``dual_grid_decode`` in Triton: sort the voxels' keys, look neighbours up by bisection, gather quads, cut them.

Gradients of blended quads are written quad by quad and added vertex by vertex, in the order of the quads.
"""

# Implementations take all arguments by position.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from maquette_kernels.dual_grid.dual_grid_decode.keys import voxel_keys
from maquette_kernels.dual_grid.dual_grid_decode.triton_quads import (
    centres_backward_kernel,
    centres_kernel,
    cut_kernel,
    neighbours_kernel,
)
from maquette_kernels.segment_sum import compilations as sum_compilations
from maquette_kernels.segment_sum import segment_sum
from maquette_kernels.triton_support import Compilation, interpreting

ITEMS = 128


def forward(
    voxels: Tensor,
    points: Tensor,
    edges: Tensor,
    signs: Tensor | None,
    weights: Tensor | None,
    resolution: int,
    blend: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and sources."""
    quads, owners = _quads(voxels, edges, signs)
    taken = torch.zeros(len(voxels), dtype=torch.bool, device=voxels.device)
    taken[quads.flatten().long()] = True
    rank = taken.cumsum(0).int() - 1
    used = taken.nonzero()[:, 0].int()
    vertices = _places(voxels, points, used, resolution)
    count = len(quads)
    if blend:
        corners = rank[quads.long()]
        centres = vertices.new_empty(count, 3)
        if count:
            centres_kernel[(triton.cdiv(count, ITEMS),)](
                vertices, _of(weights, used, vertices), corners, centres, count,
                WEIGHTED=weights is not None, BLOCK=ITEMS,
            )  # fmt: skip
        own = torch.arange(len(used), len(used) + count, dtype=torch.int32, device=voxels.device)
        faces = torch.stack([corners, corners.roll(-1, 1), own[:, None].expand(-1, 4)], 2).reshape(-1, 3)
        return torch.cat([vertices, centres]).to(points.dtype), faces, torch.cat([used, owners])
    turned = torch.empty_like(quads)
    if count:
        held = points if weights is None else weights.contiguous()
        cut_kernel[(triton.cdiv(count, ITEMS),)](
            voxels.contiguous(), points.contiguous(), held, quads, turned, count, voxels.shape[1],
            voxels.shape[1] - 3, WEIGHTED=weights is not None, BLOCK=ITEMS,
        )  # fmt: skip
    return vertices.to(points.dtype), rank[turned.long()][:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3), used


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of points and weights."""
    voxels, points, _, _, weights, resolution, blend = arguments
    (faces, sources), above = residuals, gradients[0]
    if above is None:
        return None, None
    quads = len(faces) // 4 if blend else 0
    used = sources[: len(sources) - quads]
    moved = above[: len(used)].double()
    pulled, spread = points.new_zeros(points.shape), None if weights is None else weights.new_zeros(weights.shape)
    if quads:
        corners = faces.view(-1, 4, 3)[:, :, 0].contiguous()
        vertices, rows = _places(voxels, points, used, resolution), moved.new_empty(4 * quads, 4)
        centres_backward_kernel[(triton.cdiv(quads, ITEMS),)](
            vertices, _of(weights, used, vertices), corners, above[len(used) :].double().contiguous(), rows, quads,
            WEIGHTED=weights is not None, BLOCK=ITEMS,
        )  # fmt: skip
        added = segment_sum(rows, corners.flatten(), len(used))
        moved = moved + added[:, :3]
        if spread is not None:
            spread[used.long()] = added[:, 3].to(spread.dtype)
    pulled[used.long()] = (moved / resolution).to(points.dtype)
    return pulled, spread


def _quads(voxels: Tensor, edges: Tensor, signs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Voxels round each crossed edge that has all four, int32 [Q, 4], and the one that it leaves, int32 [Q]."""
    given = voxel_keys(voxels)
    keys, order = given.sort()
    count = len(keys)
    places = torch.empty(3 * count, 4, dtype=torch.int32, device=keys.device)
    whole = torch.empty(3 * count, dtype=torch.int8, device=keys.device)
    if count:
        tile = 4 * ITEMS if interpreting() else ITEMS
        neighbours_kernel[(triton.cdiv(3 * count, tile),)](
            torch.cat([keys, given]), order, edges.contiguous().view(torch.uint8), places, whole, count,
            STEPS=max(count.bit_length(), 1), BLOCK=tile,
        )  # fmt: skip
    kept = whole.nonzero()[:, 0]
    quads, owners = places[kept], (kept % max(count, 1)).int()
    if signs is not None:
        looks = signs.T.reshape(-1)[kept]
        quads = torch.where(looks[:, None], quads, quads.flip(1))
    return quads.contiguous(), owners


def _places(voxels: Tensor, points: Tensor, used: Tensor, resolution: int) -> Tensor:
    """Where points lie in the unit cube, float64 [V, 3]."""
    return (voxels[used.long(), -3:].double() + points[used.long()].double()) / resolution - 0.5


def _of(weights: Tensor | None, used: Tensor, like: Tensor) -> Tensor:
    """Weights of the used voxels; anything where there are none, for a kernel that will not look."""
    return like if weights is None else weights[used.long()]


def compilations() -> list[Compilation]:
    """Every kernel as it runs on a GPU, for a million voxels, with and without weights."""
    plain, weighted = {"BLOCK": ITEMS, "WEIGHTED": False}, {"BLOCK": ITEMS, "WEIGHTED": True}
    return [
        _compilation(neighbours_kernel, {"BLOCK": ITEMS, "STEPS": 20}),
        _compilation(cut_kernel, plain),
        _compilation(cut_kernel, weighted),
        _compilation(centres_kernel, weighted),
        _compilation(centres_backward_kernel, weighted),
        *sum_compilations(4, values="*fp64"),
    ]


def _compilation(kernel: Any, constants: dict[str, Any]) -> Compilation:
    doubles = dict.fromkeys(["vertices", "centres", "above", "out"], "*fp64")
    single = dict.fromkeys(["places", "quads", "turned", "corners"], "*i32")
    other = {"keys": "*i64", "order": "*i64", "crossed": "*u8", "whole": "*i8", "points": "*fp32", "weights": "*fp32"}
    known = doubles | single | other
    if "turned" in kernel.arg_names:
        known |= {"voxels": "*i32"}
    return Compilation(kernel, {name: known.get(name, "i32") for name in kernel.arg_names}, constants)
