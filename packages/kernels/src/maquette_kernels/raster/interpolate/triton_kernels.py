"""``interpolate`` in Triton: one kernel forwards, one for the gradient of weights, a sorted sum for attributes."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.segment_sum import compilations as sum_compilations
from maquette_kernels.segment_sum import segment_sum
from maquette_kernels.triton_support import Compilation, interpreting


@triton.jit
def _corner(faces, face, corner, pixel, hit, apart, attribute_batch, attribute_row):
    """Where the attributes of a corner begin."""
    vertex = tl.load(faces + face * 3 + corner, mask=hit, other=0).to(tl.int64)
    return pixel // apart * attribute_batch + vertex * attribute_row


@triton.jit
def mix_kernel(
    attributes, faces, face_id, weights, out, pixels, channels, apart, attribute_batch, attribute_row,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The weighted sum of three rows for each pixel."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    live = pixel < pixels
    face = tl.load(face_id + pixel, mask=live, other=-1).to(tl.int64)
    hit = face >= 0
    mask = hit[:, None] & (channel < channels)
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for corner in tl.static_range(3):
        row = _corner(faces, face, corner, pixel, hit, apart, attribute_batch, attribute_row)
        weight = tl.load(weights + pixel * 3 + corner, mask=hit, other=0.0).to(tl.float32)
        value = tl.load(attributes + row[:, None] + channel, mask=mask, other=0.0).to(tl.float32)
        total += value * weight[:, None]
    place = (pixel * channels)[:, None] + channel
    tl.store(out + place, total.to(out.dtype.element_ty), mask=live[:, None] & (channel < channels))


@triton.jit
def pull_kernel(
    attributes, faces, face_id, above, out, targets, pixels, vertices, nowhere, channels, apart,
    attribute_batch, attribute_row, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradients of the weights, and which vertex each weight belongs to (``nowhere``: none)."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    live = pixel < pixels
    face = tl.load(face_id + pixel, mask=live, other=-1).to(tl.int64)
    hit = face >= 0
    for corner in tl.static_range(3):
        row = _corner(faces, face, corner, pixel, hit, apart, attribute_batch, attribute_row)
        total = tl.zeros((PIXELS,), tl.float32)
        first = 0
        while first < channels:
            channel = first + tl.arange(0, CHANNELS)[None, :]
            mask = hit[:, None] & (channel < channels)
            value = tl.load(attributes + row[:, None] + channel, mask=mask, other=0.0).to(tl.float32)
            gradient = tl.load(above + (pixel * channels)[:, None] + channel, mask=mask, other=0.0).to(tl.float32)
            total += tl.sum(value * gradient, 1)
            first += CHANNELS
        vertex = tl.load(faces + face * 3 + corner, mask=hit, other=0).to(tl.int64)
        tl.store(out + pixel * 3 + corner, total, mask=live)
        tl.store(targets + pixel * 3 + corner, tl.where(hit, vertex + pixel // apart * vertices, nowhere), mask=live)


def forward(attributes: Tensor, faces: Tensor, face_id: Tensor, barycentrics: Tensor) -> Tensor:
    """Attributes at each pixel."""
    out = attributes.new_empty(*face_id.shape, attributes.shape[-1])
    if out.numel():
        pixels, channels, apart, constants = _sizes(attributes, face_id)
        grid = (triton.cdiv(pixels, constants["PIXELS"]), triton.cdiv(channels, constants["CHANNELS"]))
        mix_kernel[grid](
            attributes, _given(faces, face_id), face_id.contiguous(), barycentrics.contiguous(), out, pixels, channels,
            apart, attributes.stride(0), attributes.stride(1), **constants,
        )  # fmt: skip
    return out


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the attributes and of the weights."""
    attributes, faces, face_id, barycentrics = arguments
    upstream = gradients[0]
    if upstream is None or not upstream.numel():
        return None, None
    upstream, vertices = upstream.contiguous(), attributes.shape[1]
    pixels, channels, apart, constants = _sizes(attributes, face_id)
    weights = torch.empty(barycentrics.shape, dtype=torch.float32, device=barycentrics.device)
    targets = torch.empty(pixels * 3, dtype=torch.int64, device=weights.device)
    count = attributes.shape[0] * vertices
    pull_kernel[(triton.cdiv(pixels, constants["PIXELS"]),)](
        attributes, _given(faces, face_id), face_id.contiguous(), upstream, weights, targets, pixels, vertices, count,
        channels, apart, attributes.stride(0), attributes.stride(1), **constants,
    )  # fmt: skip
    if not count:
        return None, weights
    rows = upstream.reshape(-1, channels)
    found = segment_sum(rows, targets.view(-1, 3), count, weights=barycentrics)
    return found.view(attributes.shape), weights


def _given(faces: Tensor, stand_in: Tensor) -> Tensor:
    """Faces to point at, also where there are none."""
    return faces.contiguous() if len(faces) else stand_in


def _sizes(attributes: Tensor, face_id: Tensor) -> tuple[int, int, int, dict[str, int]]:
    """Pixels, channels, pixels that share attributes, and the kernels' blocks."""
    pixels, channels = face_id.numel(), attributes.shape[-1]
    wide = min(triton.next_power_of_2(channels), 64)
    block = min(triton.next_power_of_2(pixels), 4096) if interpreting() else max(1024 // wide, 32)
    apart = face_id[0].numel() if attributes.shape[0] > 1 else pixels
    return pixels, channels, apart, {"PIXELS": block, "CHANNELS": wide}


def compilations() -> list[Compilation]:
    """Every kernel for 3 channels in float32 and 64 in bf16."""
    pointers = {"faces": "*i32", "face_id": "*i32", "weights": "*fp32", "targets": "*i64"}
    found = sum_compilations(64, values="*bf16", shared=3, weighted=True)
    for dtype, constants in (("*fp32", {"PIXELS": 256, "CHANNELS": 4}), ("*bf16", {"PIXELS": 32, "CHANNELS": 64})):
        floats = {"attributes": dtype, "above": dtype}
        for kernel, out in ((mix_kernel, dtype), (pull_kernel, "*fp32")):
            types = {name: ({"out": out} | floats | pointers).get(name, "i32") for name in kernel.arg_names}
            found.append(Compilation(kernel, types, constants))
    return found
