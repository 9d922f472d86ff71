"""The specification of ``dual_grid_encode``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.dual_grid.dual_grid_encode.reference import reference, systems
from maquette_kernels.dual_grid.dual_grid_encode.weights import MEAN
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MOST = 2048
"""Voxels a side: the CPU path holds a bit for each, 1 GB."""


def validate(call: Call) -> str | None:
    """What is wrong with a call, or None."""
    vertices, faces = call["vertices"], call["faces"]
    if len(vertices.shape) != 2 or vertices.shape[1] != 3 or vertices.dtype not in (torch.float32, torch.float64):
        return f"vertices must be float32 or float64 [V, 3], got {vertices.dtype} {tuple(vertices.shape)}"
    if len(faces.shape) != 2 or faces.shape[1] != 3 or faces.dtype not in (torch.int32, torch.int64):
        return f"faces must be int32 or int64 [F, 3], got {faces.dtype} {tuple(faces.shape)}"
    resolution = call.scalars["resolution"]
    return None if 1 <= resolution <= MOST else f"resolution is {resolution}; give one from 1 to {MOST}"


def fake(vertices: Tensor, faces: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As many voxels as the data has."""
    count = torch.library.get_ctx().new_dynamic_size()
    flags = faces.new_empty(count, 3, dtype=torch.bool)
    return faces.new_empty(count, 3, dtype=torch.int32), vertices.new_empty(count, 3), flags, flags


def cost(call: Call) -> tuple[int, int]:
    """For triangles about as large as a voxel: four cells each to clip to, 600 flops; a voxel for every two of them."""
    faces = call["faces"].shape[0]
    return 2400 * faces, sum(operand.bytes for operand in call.given.values()) + 2 * faces * (12 + 12 + 6)


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """An open corner of three triangles."""
    vertices = torch.tensor([[0.1, 0.05, 0.13], [0.41, 0.1, -0.2], [-0.3, 0.37, 0.1], [-0.11, -0.2, 0.4]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1]], dtype=torch.int32)
    return vertices.to(device, dtype), faces.to(device), 4


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A ball of 20,000 triangles, in 256 voxels a side on a CPU, 1024 on a GPU."""
    side = 100
    around = torch.arange(side, dtype=torch.float64) * (2 * torch.pi / side)
    height = (torch.arange(side + 1, dtype=torch.float64) / side * torch.pi)[:, None]
    x, y = height.sin() * around.cos(), height.sin() * around.sin()
    vertices = 0.45 * torch.stack([x, y, height.cos().expand_as(x)], -1).reshape(-1, 3)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    after = (column + 1) % side
    a, b, c, d = row * side + column, (row + 1) * side + column, (row + 1) * side + after, row * side + after
    faces = torch.stack([a, b, c, a, c, d], -1).reshape(-1, 3).int()
    return vertices.to(device, dtype), faces.to(device), 256 if device.type == "cpu" else 1024


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """No triangles, one and several, that share vertices or not, name one twice, lie in planes of the grid or leave
    the cube; small ones anywhere in a fine grid.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        resolution = draw(st.sampled_from([1, 2, 3, 4, 5, 1000, 2048]))
        corners, count = draw(st.sampled_from([1, 3, 4, 6])), draw(st.sampled_from([0, 1, 2, 4, 7]))
        vertices = torch.rand(corners, 3, generator=generator) * 1.1 - 0.55
        rough = (vertices * 8).round() / 8
        if draw(st.booleans()) and not _has_needles(rough):
            vertices = rough
        if resolution > 5:
            middle = torch.rand(3, generator=generator) * 1.002 - 0.501
            vertices = middle + vertices * draw(st.sampled_from([1.0, 3.0])) / resolution
        faces = torch.randint(corners, (count, 3), generator=generator, dtype=torch.int32)
        if count and draw(st.booleans()):
            faces[0] = torch.arange(3) % corners
        return vertices.to(dtype), faces, resolution

    return draw_arguments()


def _has_needles(vertices: Tensor) -> bool:
    """Whether three vertices lie in a line, whose triangle has no normal but by rounding."""
    three = vertices[torch.combinations(torch.arange(len(vertices)), 3)]
    across = torch.linalg.cross(three[:, 1] - three[:, 0], three[:, 2] - three[:, 0])
    return bool((across.norm(dim=1) < 1e-6).any())


def judge(arguments: tuple[Any, ...], results: tuple[Tensor, ...], oracles: tuple[Tensor, ...]) -> str | None:
    """Voxels, edges and signs are equal; points as close as their equations let them be.

    Where a voxel holds but a sliver of the surface and a crossing beside it, its equations are nearly singular, and
    the order of sums shows.
    """
    for name, result, oracle in zip(("voxels", "", "edges", "signs"), results, oracles, strict=True):
        if result.shape != oracle.shape:
            return f"there are {len(result)} voxels, the reference has {len(oracle)}"
        if name and not torch.equal(result.cpu(), oracle.cpu()):
            return f"{name} differ in {(result.cpu() != oracle.cpu()).sum().item()} of {result.numel()}"
    _, matrices, _, _ = systems(*arguments)
    rounded = torch.finfo(results[1].dtype).eps
    loss = 64 * torch.finfo(torch.float64).eps * matrices.abs().amax((1, 2)) / MEAN
    error = (results[1].cpu().double() - oracles[1].cpu()).abs().amax(1)
    worst = int((error - rounded - loss).argmax()) if len(error) else 0
    if not bool((error <= rounded + loss).all()):
        place = results[0][worst].tolist()
        return f"the point in voxel {place} is off by {error[worst]:.2e}, allowed {rounded + loss[worst]:.2e}"
    return None


def faces_may_come_in_any_order(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Permuted faces give the same voxels and edges; if they are reversed too, edges look the other way or both."""
    vertices, faces, resolution = arguments
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(1)).to(faces.device)
    voxels, _, edges, signs = run(vertices, faces, resolution)
    again, _, crossed, turned = run(vertices, faces[order].flip(1), resolution)
    assert torch.equal(voxels, again), "permuted faces touch other voxels"
    assert torch.equal(edges, crossed), "permuted faces cross other edges"
    assert bool((signs | turned)[edges].all()), "a crossed edge looks along its axis neither way"


def _supports_triton(call: Call) -> str | None:
    return triton_support.refusal(call, rows=())


DUAL_GRID_ENCODE = Operation(
    name="dual_grid_encode",
    reference=reference,
    constants=("vertices", "faces"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    dtypes=(torch.float32,),
    judge=judge,
    laws=(faces_may_come_in_any_order,),
    implementations=twins(__package__, _supports_triton),
)


def build(config: NoSettings) -> Operation:
    """Voxels, points and crossed edges of a mesh: its flexible dual grid."""
    return DUAL_GRID_ENCODE
