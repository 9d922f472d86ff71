"""The specification of ``dual_grid_decode``."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.dual_grid.dual_grid_decode.reference import reference
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

PLACE = (3, 4)


def validate(call: Call) -> str | None:
    """What is wrong with the shapes of a call, or None."""
    voxels, points = call["voxels"], call["points"]
    if len(voxels.shape) != 2 or voxels.shape[1] not in PLACE or voxels.dtype != torch.int32:
        return f"voxels must be int32 [N, 3] or [N, 4], got {voxels.dtype} {tuple(voxels.shape)}"
    count = voxels.shape[0]
    if tuple(points.shape) != (count, 3) or not points.dtype.is_floating_point:
        return f"points must be floating [{count}, 3], got {points.dtype} {tuple(points.shape)}"
    for name in ("edges", "signs"):
        if call.has(name) and (tuple(call[name].shape) != (count, 3) or call[name].dtype != torch.bool):
            return f"{name} must be bool [{count}, 3], got {call[name].dtype} {tuple(call[name].shape)}"
    if call.has("weights") and (tuple(call["weights"].shape) != (count,) or call["weights"].dtype != points.dtype):
        given = call["weights"]
        return f"weights must be {points.dtype} [{count}] as the points, got {given.dtype} {tuple(given.shape)}"
    resolution = call.scalars["resolution"]
    return None if resolution >= 1 else f"resolution is {resolution}; give the voxels along the unit cube, 1 or more"


def fake(
    voxels: Tensor,
    points: Tensor,
    edges: Tensor,
    signs: Tensor | None,
    weights: Tensor | None,
    resolution: int,
    blend: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and sources, as many as the data has."""
    context = torch.library.get_ctx()
    vertices, faces = context.new_dynamic_size(), context.new_dynamic_size()
    return points.new_empty(vertices, 3), voxels.new_empty(faces, 3), voxels.new_empty(vertices)


def cost(call: Call) -> tuple[int, int]:
    """A quad a voxel, about: 60 flops to choose its diagonal; arguments read once, two faces and a vertex written."""
    count = call["voxels"].shape[0]
    return 60 * count, sum(operand.bytes for operand in call.given.values()) + count * (24 + 3 * 4 + 4)


def shell(count: int, seed: int, blur: float = 1.5) -> tuple[Tensor, Tensor]:
    """Voxels int32 [N, 3] in lexicographic order and crossed edges bool [N, 3] of a ball in a grid of ``count``."""
    x = torch.arange(count + 1.0) - count / 2 + 0.3
    inside = (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2).sqrt() < count / blur / 2
    low = inside[:-1, :-1, :-1]
    ends = (inside[1:, :-1, :-1], inside[:-1, 1:, :-1], inside[:-1, :-1, 1:])
    crossed = torch.stack([low != end for end in ends], -1)
    active = torch.zeros_like(low)
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for move in ((0, 0), (1, 0), (0, 1), (1, 1)):
            active |= crossed[..., axis].roll((-move[0], -move[1]), (u, v))
    return active.nonzero().int(), crossed[active]


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A small ball, blended, so that both gradients are at work."""
    return _ball(8, True, device, dtype)


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A ball of 256 voxels across on a CPU, of 512 on a GPU, for inference."""
    return _ball(256 if device.type == "cpu" else 512, False, device, dtype)


def _ball(count: int, blend: bool, device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    voxels, edges = shell(count, 0)
    points = torch.rand(len(voxels), 3, generator=generator).to(dtype)
    signs = torch.rand(len(voxels), 3, generator=generator) < 0.5
    weights = (torch.rand(len(voxels), generator=generator) + 0.5).to(dtype) if blend else None
    tensors = (voxels, points, edges, signs, weights)
    return (*(None if t is None else t.to(device) for t in tensors), count, blend)


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """None, one and some voxels of a small box, in several batch elements with equal ones, sorted or not, at any
    corner of the range; points on a lattice, so that ties are exact, or anywhere.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        seed = draw(st.integers(0, 2**31))
        generator = torch.Generator().manual_seed(seed)
        side, batches = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([0, 1, 2]))
        counts = (max(batches, 1), side, side, side)
        kept = torch.rand(counts, generator=generator) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
        voxels = kept.nonzero().int()
        voxels[:, 1:] += draw(st.sampled_from([0, 5, -2, -32768, 32768 - side]))
        if draw(st.booleans()):
            voxels = voxels[torch.randperm(len(voxels), generator=generator)]
        edges = torch.rand(len(voxels), 3, generator=generator) < draw(st.sampled_from([0.0, 0.6, 1.0]))
        signs = torch.rand(len(voxels), 3, generator=generator) < 0.5 if draw(st.booleans()) else None
        points, weights = torch.rand(len(voxels), 3, generator=generator), None
        if draw(st.booleans()):
            points = (points * 4).round() / 4
        if draw(st.booleans()):
            weights = (torch.randint(1, 9, (len(voxels),), generator=generator) / 4).to(dtype)
        resolution, blend = draw(st.sampled_from([1, 7, 64])), draw(st.booleans())
        return voxels if batches else voxels[:, 1:], points.to(dtype), edges, signs, weights, resolution, blend

    return draw_arguments()


def voxels_may_come_in_any_order(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Permuted voxels give the same surface: the same triangles, as sets of places."""
    order = torch.randperm(len(arguments[0]), generator=torch.Generator().manual_seed(1))
    order = order.to(arguments[0].device)
    moved = tuple(None if t is None else t[order] for t in arguments[:5])
    assert _triangles(run(*arguments)) == _triangles(run(*moved, *arguments[5:])), "permuted voxels change the surface"


def a_batch_is_its_elements(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """A grid beside a copy of itself in another batch element gives its surface twice."""
    if arguments[0].shape[1] != PLACE[1]:
        return
    far = arguments[0] + torch.tensor([7, 0, 0, 0], dtype=torch.int32, device=arguments[0].device)
    twice = tuple(None if t is None else torch.cat([t, t]) for t in arguments[1:5])
    single = _triangles(run(*arguments))
    double = _triangles(run(torch.cat([arguments[0], far]), *twice, *arguments[5:]))
    assert sorted(single + single) == double, "two batch elements are not twice the one"


def _triangles(results: tuple[Tensor, ...]) -> list[list[float]]:
    vertices, faces, _ = results
    return sorted(vertices[faces.long()].reshape(-1, 9).tolist())


def _supports_triton(call: Call) -> str | None:
    return triton_support.refusal(call, rows=())


DUAL_GRID_DECODE = Operation(
    name="dual_grid_decode",
    reference=reference,
    keeps=(1, 2),
    constants=("voxels", "edges", "signs"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    laws=(voxels_may_come_in_any_order, a_batch_is_its_elements),
    linear=("points",),
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """The surface of a flexible dual grid, differentiable in its points and split weights."""
    return DUAL_GRID_DECODE
