"""The specification of ``interpolate``: shapes, cost, test inputs, and its implementations in order of preference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.raster.interpolate.reference import reference
from maquette_kernels.raster.screen import validate_faces

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def validate(call: Call) -> str | None:
    """What is wrong with the shapes of a call, or None."""
    attributes, face_id, weights = call["attributes"], call["face_id"], call["barycentrics"]
    if len(face_id.shape) != 3 or face_id.dtype != torch.int32:
        return f"face_id must be int32 [B, H, W], got {face_id.dtype} {list(face_id.shape)}"
    if len(attributes.shape) != 3 or attributes.shape[0] not in (1, face_id.shape[0]):
        return f"attributes must be [1 or {face_id.shape[0]}, V, C], got {list(attributes.shape)}"
    if tuple(weights.shape) != (*face_id.shape, 3) or weights.dtype not in {torch.float32, torch.float64}:
        return f"barycentrics must be float32 {[*face_id.shape, 3]}, got {weights.dtype} {list(weights.shape)}"
    return validate_faces(call["faces"])


def fake(attributes: Tensor, faces: Tensor, face_id: Tensor, barycentrics: Tensor) -> tuple[Tensor]:
    """Attributes at each pixel."""
    return (attributes.new_empty((*face_id.shape, attributes.shape[-1])),)


def cost(call: Call) -> tuple[int, int]:
    """Six flops a pixel and channel; the mesh and the pixels are read, the attributes of pixels written."""
    written = call["face_id"].numel * call["attributes"].shape[-1]
    read = sum(operand.bytes for operand in call.given.values())
    return 6 * written, read + written * call["attributes"].dtype.itemsize


def _arguments(sizes: tuple[int, int, int, int, int, int, int], seed: int, dtype: torch.dtype) -> tuple[Any, ...]:
    batch, apart, height, width, vertices, count, channels = sizes
    generator = torch.Generator().manual_seed(seed)
    attributes = torch.randn(apart, vertices, channels, generator=generator)
    faces = torch.randint(0, vertices, (count, 3), generator=generator).to(torch.int32)
    face_id = torch.randint(-1, max(count, 0), (batch, height, width), generator=generator).to(torch.int32)
    weights = torch.randn(batch, height, width, 3, generator=generator)
    return attributes.to(dtype), faces, face_id, weights


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Two pictures of one mesh with 5 channels."""
    drawn = _arguments((2, 1, 5, 7, 6, 4, 5), 0, dtype)
    weights = drawn[3].to(dtype) if dtype == torch.float64 else drawn[3]
    return tuple(value.to(device) for value in (*drawn[:3], weights))


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """16 channels in a picture of 1024 x 1024 pixels that all see one of 40,000 faces, in runs of 26 pixels."""
    attributes, faces, face_id, weights = _arguments((1, 1, 1024, 1024, 20000, 40000, 16), 0, dtype)
    face_id = (torch.arange(face_id.numel()) // 26 % 40000).to(torch.int32).view(face_id.shape)
    return tuple(value.to(device) for value in (attributes, faces, face_id, weights))


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """No pixels, no faces, one or several sets of attributes, channels around powers of two; weights of any size."""
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        batch = draw(st.sampled_from([0, 1, 2, 3]))
        apart = draw(st.sampled_from([1, batch or 1]))
        sides = draw(st.sampled_from([(0, 3), (1, 1), (5, 7), (8, 8), (3, 13)]))
        channels = draw(st.sampled_from([1, 2, 3, 4, 5, 63, 65]))
        count = draw(st.sampled_from([0, 1, 2, 19]))
        vertices = draw(st.sampled_from([1, 3, 17]))
        return _arguments((batch, apart, *sides, vertices, count, channels), draw(st.integers(0, 2**31)), dtype)

    return draw_arguments()


def _supports_triton(call: Call) -> str | None:
    return triton_support.refusal(call, rows=("attributes",))


INTERPOLATE = Operation(
    name="interpolate",
    reference=reference,
    constants=("faces", "face_id"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    cost=cost,
    workload=workload,
    linear=("attributes",),
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Attributes of vertices at the pixels that see them, differentiable in attributes and weights."""
    return INTERPOLATE
