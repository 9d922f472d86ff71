"""What a call with points and a mesh must look like, and the meshes that this family is tested and timed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

PLACES = (torch.float32, torch.float64)
NUMBERS = (torch.int32, torch.int64)
LARGE_POINTS, LARGE_RINGS = 100_000, (125, 80)  # 20,000 faces


def validate(call: Call) -> str | None:
    """What is wrong with the points, vertices and faces of a call, or None."""
    for name in ("points", "vertices", "faces"):
        if len(call[name].shape) != 2 or call[name].shape[1] != 3:
            return f"{name} must be [N, 3], got {list(call[name].shape)}"
    if call["points"].dtype not in PLACES or call["points"].dtype != call["vertices"].dtype:
        got = f"{call['points'].dtype} and {call['vertices'].dtype}"
        return f"points and vertices must both be float32 or both float64, got {got}; convert them"
    return None if call["faces"].dtype in NUMBERS else f"faces must be int32 or int64, got {call['faces'].dtype}"


def for_triton(call: Call) -> str | None:
    """Why no Triton kernel of this family can run a call, or None."""
    return triton_support.refusal(call, rows=())


def torus(around: int, across: int, tube: float = 0.4) -> tuple[Tensor, Tensor]:
    """A closed torus of 2 * around * across faces that look outwards, float32, its ring of radius 1."""
    u = torch.arange(around).mul(2 * torch.pi / around)[:, None]
    v = torch.arange(across).mul(2 * torch.pi / across)[None, :]
    radius = 1 + tube * v.cos()
    place = torch.stack([radius * u.cos(), radius * u.sin(), (tube * v.sin()).expand(around, across)], -1)
    i, j = torch.meshgrid(torch.arange(around), torch.arange(across), indexing="ij")
    i, j, k, m = i.flatten(), j.flatten(), ((i + 1) % around).flatten(), ((j + 1) % across).flatten()
    a, b, c, d = i * across + j, k * across + j, k * across + m, i * across + m
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    return place.reshape(-1, 3), faces.int()


def example(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Points around a small torus that is bent a little, so that no point is as near to one face as to another."""
    generator = torch.Generator().manual_seed(0)
    vertices, faces = torus(7, 5)
    vertices = vertices + 0.05 * torch.randn(vertices.shape, generator=generator)
    points = 1.5 * torch.randn(33, 3, generator=generator)
    return points.to(device, dtype), vertices.to(device, dtype), faces.to(device)


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """100,000 points, half of them near a torus of 20,000 faces."""
    generator = torch.Generator().manual_seed(0)
    vertices, faces = torus(*LARGE_RINGS)
    chosen = torch.randint(len(vertices), (LARGE_POINTS // 2,), generator=generator)
    near = vertices[chosen] + 0.05 * torch.randn(len(chosen), 3, generator=generator)
    even = 3 * torch.rand(LARGE_POINTS - len(chosen), 3, generator=generator) - 1.5
    return torch.cat([near, even]).to(device, dtype), vertices.to(device, dtype), faces.to(device)


def inputs(dtype: torch.dtype, *, closed: bool = False) -> SearchStrategy[tuple[Any, ...]]:
    """Points and meshes: none, one face, triangles anywhere, a bent torus; far from the origin, unused vertices.

    Args:
        dtype: of points and vertices.
        closed: toruses only, with some faces missing.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        away = 0.0
        if closed or draw(st.booleans()):
            vertices, faces = torus(*draw(st.sampled_from([(3, 3), (4, 4), (5, 4)])))
            if draw(st.booleans()):  # another one far away, so that most points need not look at either
                faces = torch.cat([faces, faces + len(vertices)])
                vertices = torch.cat([vertices, vertices + 9.0])
                away = 9.0
            vertices = vertices + 0.05 * torch.randn(vertices.shape, generator=generator)
            missing = draw(st.sampled_from([0, 0, 1, 3]))
            faces = faces[torch.randperm(len(faces), generator=generator)][missing:]
        else:
            count = draw(st.sampled_from([0, 1, 2, 17, 31, 32, 33, 65]))
            spread = draw(st.sampled_from([1.0, 5.0]))
            middles = spread * torch.randn(count, 1, 3, generator=generator)
            sizes = torch.rand(count, 1, 1, generator=generator)
            vertices = (middles + sizes * torch.randn(count, 3, 3, generator=generator)).reshape(-1, 3)
            faces = torch.randperm(3 * count, generator=generator).reshape(-1, 3)
        spare = draw(st.sampled_from([1, 2, 5]))
        vertices = torch.cat([torch.randn(spare, 3, generator=generator), vertices])
        faces = (faces + spare).to(draw(st.sampled_from(NUMBERS)))
        amount = draw(st.sampled_from([0, 1, 2, 33, 61, 64, 65]))
        points = draw(st.sampled_from([1.5, 5.0])) * torch.randn(amount, 3, generator=generator)
        points[::3] += away
        shift = draw(st.sampled_from([0.0, 0.0, 8.0]))
        scale = draw(st.sampled_from([1.0, 1.0, 2.0**-10, 2.0**10]))
        return ((points + shift) * scale).to(dtype), ((vertices + shift) * scale).to(dtype), faces

    return draw_arguments()
