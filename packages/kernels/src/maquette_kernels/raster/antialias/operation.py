"""The specification of ``antialias``: shapes, cost, test inputs, and its implementations in order of preference."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.raster.antialias.reference import reference, residuals
from maquette_kernels.raster.rasterise import RASTERISE
from maquette_kernels.raster.rasterise.reference import reference as rasterised
from maquette_kernels.raster.scenes import bumpy_sphere, draw_scene, facing_camera
from maquette_kernels.raster.screen import validate_faces, validate_mesh
from maquette_kernels.raster.topology import edge_opposites

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def validate(call: Call) -> str | None:
    """What is wrong with the shapes of a call, or None."""
    image, face_id, depth, opposites = (call[n] for n in ("image", "face_id", "depth", "opposites"))
    if len(face_id.shape) != 3 or face_id.dtype != torch.int32:
        return f"face_id must be int32 [B, H, W], got {face_id.dtype} {list(face_id.shape)}"
    if len(image.shape) != 4 or tuple(image.shape[:3]) != tuple(face_id.shape):
        return f"image must be {[*face_id.shape, 'C']}, got {list(image.shape)}"
    if tuple(depth.shape) != tuple(face_id.shape):
        return f"depth must be {list(face_id.shape)}, got {list(depth.shape)}"
    if validate_faces(opposites) or tuple(opposites.shape) != tuple(call["faces"].shape):
        return f"opposites must be int32 {list(call['faces'].shape)}, got {opposites.dtype} {list(opposites.shape)}"
    if call["positions"].shape[0] != face_id.shape[0]:
        return f"positions are of {call['positions'].shape[0]} pictures, face_id of {face_id.shape[0]}"
    return validate_mesh(call)


def fake(
    image: Tensor, face_id: Tensor, depth: Tensor, positions: Tensor, faces: Tensor, opposites: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The picture, and where which edge crosses between two pixels."""
    batch, height, width = face_id.shape
    pairs = (batch, 2, height, width)
    return image.new_empty(image.shape), positions.new_empty(pairs), face_id.new_empty(pairs)


def cost(call: Call) -> tuple[int, int]:
    """Few pixels lie on an edge: faces, depth and colours are read, colours and what was found are written."""
    face_id, image = call["face_id"], call["image"]
    found = 2 * face_id.numel * (4 + call["positions"].dtype.itemsize)
    return 10 * image.numel, 2 * image.bytes + face_id.bytes + call["depth"].bytes + found


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Three triangles, seen in perspective, in a picture of 9 x 10 pixels with 3 channels."""
    clip = [[-0.71, -0.83, 0.1, 1.1], [0.93, -0.61, 0.23, 1.3], [0.13, 0.97, 0.31, 1.2], [-0.91, 0.57, 0.67, 1.5]]
    faces = torch.tensor([[0, 1, 2], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    wide = torch.promote_types(dtype, torch.float32)
    positions = torch.tensor([clip], dtype=wide)
    _, depth, face_id = rasterised(positions, faces, 9, 10)
    image = torch.rand(1, 9, 10, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = (image, face_id, depth, positions, faces, edge_opposites(faces))
    return tuple(value.to(device) for value in found)


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A sphere with bumps of 82,000 faces in a picture of 1024 x 1024 pixels with 3 channels."""
    vertices, faces = bumpy_sphere(144)
    positions, faces = facing_camera(vertices).float().to(device)[None], faces.to(device)
    _, depth, face_id = RASTERISE(positions, faces, 1024, 1024)
    image = torch.rand(1, 1024, 1024, 3, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return image, face_id, depth, positions, faces, edge_opposites(faces)


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Scenes as those of ``rasterise``: lattices, doubled faces, faces behind the camera; some with a closed mesh."""
    from hypothesis import strategies as st

    def arguments(seed: int, height: int, width: int, channels: int, closed: bool) -> tuple[Any, ...]:
        positions, faces = _ball(seed, height, width) if closed else draw_scene(seed, height, width)
        _, depth, face_id = rasterised(positions, faces, height, width)
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(*face_id.shape, channels, generator=generator).to(dtype)
        return image, face_id, depth, positions, faces, edge_opposites(faces)

    sides, channels = st.sampled_from([1, 2, 7, 8, 9, 11]), st.sampled_from([1, 3, 5])
    return st.builds(arguments, st.integers(0, 2**31 - 1), sides, sides, channels, st.booleans())


def _ball(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A small closed mesh, twice, from two sides."""
    generator = torch.Generator().manual_seed(seed)
    vertices, faces = bumpy_sphere(3)
    turned = torch.linalg.qr(torch.randn(2, 3, 3, generator=generator).double())[0]
    moved = 0.7 * (vertices @ turned) + 0.2 * torch.rand(2, 1, 3, generator=generator).double()
    return torch.stack([facing_camera(points) for points in moved]).float(), faces


def _supports_triton(call: Call) -> str | None:
    return triton_support.refusal(call, rows=())


ANTIALIAS = Operation(
    name="antialias",
    reference=reference,
    residuals=residuals,
    constants=("face_id", "depth", "faces", "opposites"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    cost=cost,
    workload=workload,
    linear=("image",),
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Blends pixels along outlines by coverage, differentiable in the picture and in the positions of the mesh."""
    return ANTIALIAS
