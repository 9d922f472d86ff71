"""The specification of ``rasterise``: shapes, cost, test inputs, and its implementations in order of preference."""

# Implementations take all arguments by position, as torch's operators do.
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.raster.rasterise.reference import reference
from maquette_kernels.raster.scenes import bumpy_sphere, draw_scene, facing_camera
from maquette_kernels.raster.screen import validate_mesh, validate_sides

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def validate(call: Call) -> str | None:
    """What is wrong with the shapes of a call, or None."""
    return validate_mesh(call) or validate_sides(call.scalars["height"], call.scalars["width"])


def fake(positions: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, depth and face of each pixel; a whole number as first result trips torch's opcheck."""
    shape = (positions.shape[0], height, width)
    return positions.new_empty((*shape, 3)), positions.new_empty(shape), faces.new_empty(shape)


def cost(call: Call) -> tuple[int, int]:
    """About 60 flops a face to set it up and 60 a pixel to resolve it; the mesh is read, three results written."""
    pixels = call["positions"].shape[0] * call.scalars["height"] * call.scalars["width"]
    drawn = call["positions"].shape[0] * call["faces"].shape[0]
    written = pixels * (4 + 4 * call["positions"].dtype.itemsize)
    return 60 * (drawn + pixels), call["positions"].bytes + call["faces"].bytes + written


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Three triangles in a picture of 13 x 11 pixels, one behind another, seen in perspective."""
    clip = [[-0.7, -0.8, 0.1, 1.1], [0.93, -0.61, 0.23, 1.3], [0.13, 0.97, 0.31, 1.2], [-0.91, 0.57, 0.67, 1.5]]
    faces = torch.tensor([[0, 1, 2], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    return torch.tensor([clip], dtype=dtype).to(device), faces.to(device), 13, 11


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A sphere with bumps of 82,000 faces in a picture of 1024 x 1024 pixels."""
    vertices, faces = bumpy_sphere(144)
    return facing_camera(vertices).to(device, dtype)[None], faces.to(device), 1024, 1024


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Meshes on a lattice with pixels on edges and corners, doubled faces, faces behind the camera and far outside."""
    from hypothesis import strategies as st

    def arguments(seed: int, height: int, width: int) -> tuple[Any, ...]:
        positions, faces = draw_scene(seed, height, width)
        return positions.to(dtype), faces, height, width

    return st.builds(
        arguments, st.integers(0, 2**31 - 1), st.sampled_from([1, 2, 7, 8, 9, 16]), st.sampled_from([1, 3, 8, 9, 17])
    )


def pictures_are_independent(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """A batch turned round gives its pictures turned round."""
    positions, faces, height, width = arguments
    for plain, turned in zip(run(*arguments), run(positions.flip(0).contiguous(), faces, height, width), strict=True):
        assert torch.equal(plain.flip(0), turned), "a picture depends on the others of its batch"


def order_only_settles_ties(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Faces in another order cover the same pixels at the same depth."""
    positions, faces, height, width = arguments
    plain, turned = run(*arguments), run(positions, faces.flip(0).contiguous(), height, width)
    assert torch.equal(plain[2] < 0, turned[2] < 0), "the order of faces changes which pixels are covered"
    torch.testing.assert_close(plain[1], turned[1], rtol=0, atol=1e-5, msg="the order of faces changes the depth")


def _supports_triton(call: Call) -> str | None:
    return triton_support.refusal(call, rows=())


RASTERISE = Operation(
    name="rasterise",
    reference=reference,
    keeps=(2,),
    constants=("faces",),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    cost=cost,
    workload=workload,
    dtypes=(torch.float32,),
    laws=(pictures_are_independent, order_only_settles_ties),
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Which triangle each pixel sees, with perspective-correct weights and depth, differentiable."""
    return RASTERISE
