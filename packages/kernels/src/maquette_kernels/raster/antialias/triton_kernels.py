"""``antialias`` in Triton: edges found pixel by pixel, colours gathered from neighbours, positions summed in order."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.raster.antialias.triton_edges import edge_kernel
from maquette_kernels.raster.antialias.triton_pull import pull_kernel
from maquette_kernels.raster.screen import is_safe, project
from maquette_kernels.segment_sum import compilations as sum_compilations
from maquette_kernels.segment_sum import segment_sum
from maquette_kernels.triton_support import Compilation, interpreting


@triton.jit
def _share(shift, pixel, live, plane, size, AXIS: tl.constexpr, BACK: tl.constexpr):
    """Shift of the pair of each pixel with the next (BACK: the one before) along an axis; 0 where there is none."""
    picture, inner = pixel // plane, pixel % plane
    step = 1 if AXIS == 0 else size
    column = inner % size if AXIS == 0 else inner // size
    there = live & (column > 0) if BACK else live & (column + 1 < (size if AXIS == 0 else plane // size))
    place = picture * 2 * plane + AXIS * plane + inner - (step if BACK else 0)
    return tl.load(shift + place, mask=there, other=0.0).to(tl.float32)


@triton.jit
def _mixed(values, own, place, mask, channels, share, kept, step, GRADIENT: tl.constexpr):
    """What one neighbour adds: the share of its colour less the own one, or the gradient that comes back."""
    taken = tl.maximum(share, 0.0)[:, None]
    other = tl.load(values + place + step * channels, mask=mask & (taken > 0.0), other=0.0).to(tl.float32)
    if GRADIENT:
        return taken * other, kept + tl.minimum(share, 0.0)
    return taken * (other - own), kept


@triton.jit
def blend_kernel(
    values, shift, out, pixels, channels, width, plane,
    GRADIENT: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Each pixel with what its four neighbours bring; for gradients, what it gave comes back and what it took goes."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    live = pixel < pixels
    mask = live[:, None] & (channel < channels)
    place = (pixel * channels)[:, None] + channel
    own = tl.load(values + place, mask=mask, other=0.0).to(tl.float32)
    # Seen from a pixel, a share is what it takes of its neighbour; of a pair, one takes and the other gives.
    sign = -1.0 if GRADIENT else 1.0
    kept = tl.zeros((PIXELS,), tl.float32) + 1.0
    right = -sign * _share(shift, pixel, live, plane, width, 0, False)
    below = -sign * _share(shift, pixel, live, plane, width, 1, False)
    left = sign * _share(shift, pixel, live, plane, width, 0, True)
    above = sign * _share(shift, pixel, live, plane, width, 1, True)
    from_right, kept = _mixed(values, own, place, mask, channels, right, kept, 1, GRADIENT)
    from_below, kept = _mixed(values, own, place, mask, channels, below, kept, width, GRADIENT)
    from_left, kept = _mixed(values, own, place, mask, channels, left, kept, -1, GRADIENT)
    from_above, kept = _mixed(values, own, place, mask, channels, above, kept, -width, GRADIENT)
    total = own * kept[:, None] + from_right + from_below + from_left + from_above
    tl.store(out + place, total.to(out.dtype.element_ty), mask=mask)


def forward(
    image: Tensor, face_id: Tensor, depth: Tensor, positions: Tensor, faces: Tensor, opposites: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The blended picture, then where edges cross between pixels and which."""
    batch, height, width = face_id.shape
    shift = positions.new_zeros(batch, 2, height, width)
    edge = face_id.new_full((batch, 2, height, width), -1)
    if face_id.numel() and len(faces):
        clip = positions.detach().double().reshape(-1, 4)
        screen = project(clip, is_safe(clip, height, width), height, width)
        seen = (face_id.contiguous(), depth.contiguous(), clip, screen.xy, screen.safe.to(torch.int8))
        block = min(triton.next_power_of_2(face_id.numel()), 2048) if interpreting() else 128
        for axis in range(2):
            edge_kernel[(triton.cdiv(face_id.numel(), block),)](
                *seen, faces.contiguous(), opposites.contiguous(), shift, edge, face_id.numel(),
                positions.shape[1], height, width, AXIS=axis, BLOCK=block,
            )  # fmt: skip
    return _blend(image, shift, False), shift, edge


def _blend(values: Tensor, shift: Tensor, gradient: bool) -> Tensor:
    values = values.contiguous()
    out = torch.empty_like(values)
    if out.numel():
        _, height, width, channels = values.shape
        pixels = out.numel() // channels
        wide = min(triton.next_power_of_2(channels), 64)
        block = min(triton.next_power_of_2(pixels), 4096) if interpreting() else max(1024 // wide, 32)
        blend_kernel[(triton.cdiv(pixels, block), triton.cdiv(channels, wide))](
            values, shift, out, pixels, channels, width, height * width,
            GRADIENT=gradient, PIXELS=block, CHANNELS=wide,
        )  # fmt: skip
    return out


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the image and the positions."""
    image, face_id, _, positions, faces, _ = arguments
    shift, edge = residuals
    upstream = gradients[0]
    assert upstream is not None  # the only output
    found = _blend(upstream, shift, True)
    crossed = (edge.flatten() >= 0).nonzero().squeeze(-1)
    if not len(crossed) or not image.numel():
        return found, None
    vertices, (height, width) = positions.shape[1], face_id.shape[1:]
    values = torch.empty(len(crossed) * 2, 4, dtype=torch.float32, device=image.device)
    targets = torch.empty(len(crossed) * 2, dtype=torch.int64, device=image.device)
    block = min(triton.next_power_of_2(len(crossed)), 1024) if interpreting() else 64
    wide = min(triton.next_power_of_2(image.shape[-1]), 64)
    pull_kernel[(triton.cdiv(len(crossed), block),)](
        image.contiguous(), upstream.contiguous(), shift, edge, crossed, positions.detach().double().reshape(-1, 4),
        faces.contiguous(), values, targets, len(crossed), vertices, height, width, image.shape[-1],
        BLOCK=block, CHANNELS=wide,
    )  # fmt: skip
    moved = segment_sum(values, targets, positions.shape[0] * vertices)
    return found, moved.view(positions.shape)


def compilations() -> list[Compilation]:
    """Every kernel for float32 pictures of 3 channels, and the blend for bf16."""
    pointers = {
        "face_id": "*i32", "depth": "*fp32", "clip": "*fp64", "xy": "*i32", "safe": "*i8", "faces": "*i32",
        "opposites": "*i32", "shift": "*fp32", "edge": "*i32", "image": "*fp32", "upstream": "*fp32",
        "crossed": "*i64", "values": "*fp32", "targets": "*i64", "out": "*fp32",
    }  # fmt: skip
    chosen: list[tuple[Any, dict[str, Any], dict[str, str]]] = [
        (edge_kernel, {"AXIS": 0, "BLOCK": 128}, {}),
        (edge_kernel, {"AXIS": 1, "BLOCK": 128}, {}),
        (blend_kernel, {"GRADIENT": False, "PIXELS": 256, "CHANNELS": 4}, {}),
        (blend_kernel, {"GRADIENT": True, "PIXELS": 256, "CHANNELS": 4}, {"values": "*bf16", "out": "*bf16"}),
        (pull_kernel, {"BLOCK": 64, "CHANNELS": 4}, {}),
    ]
    found = [
        Compilation(kernel, {n: (pointers | special).get(n, "i32") for n in kernel.arg_names}, constants)
        for kernel, constants, special in chosen
    ]
    return found + sum_compilations(4)
