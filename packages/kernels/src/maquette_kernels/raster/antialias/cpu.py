"""``antialias`` in compiled code: edges found and colours blended in rows, in threads."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maquette_kernels.raster.antialias.compiled import blend, find_edges, pull_image, pull_positions
from maquette_kernels.raster.screen import is_safe, project
from maquette_kernels.threads import in_chunks

_ROWS = 32


def forward(
    image: Tensor, face_id: Tensor, depth: Tensor, positions: Tensor, faces: Tensor, opposites: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The blended picture, then where edges cross between pixels and which."""
    batch, height, width = face_id.shape
    shift = torch.zeros(batch, 2, height, width, dtype=positions.dtype)
    edge = torch.full((batch, 2, height, width), -1, dtype=torch.int32)
    plain = _plain(image, positions)
    out = torch.empty_like(plain)
    mesh, across = faces.contiguous().numpy(), opposites.contiguous().numpy()
    for b in range(batch):
        clip = positions[b].detach().double().contiguous()
        screen = project(clip, is_safe(clip, height, width), height, width)
        seen = (face_id[b].numpy(), depth[b].detach().numpy(), clip.numpy(), screen.xy.numpy(), screen.safe.numpy())
        arrays = (*seen, mesh, across, shift[b].numpy(), edge[b].numpy())
        colours = (plain[b].numpy(), shift[b].numpy(), out[b].numpy())
        in_chunks(lambda a, z, arrays=arrays: find_edges(*arrays, a, z), height, _ROWS)
        in_chunks(lambda a, z, colours=colours: blend(*colours, a, z), height, _ROWS)
    return out.to(image.dtype), shift, edge


def _plain(image: Tensor, positions: Tensor) -> Tensor:
    """A contiguous picture in the dtype of the arithmetic."""
    dtype = torch.promote_types(torch.promote_types(image.dtype, positions.dtype), torch.float32)
    return image.detach().to(dtype).contiguous()


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor]:
    """Gradients of the image and the positions."""
    image, _, _, positions, faces, _ = arguments
    shift, edge = residuals
    upstream = gradients[0]
    assert upstream is not None  # the only output
    plain = _plain(image, positions)
    above = upstream.detach().to(plain.dtype).contiguous()
    found, moved = torch.empty_like(plain), torch.zeros(positions.shape, dtype=torch.float64)
    mesh, clip = faces.contiguous().numpy(), positions.detach().double().contiguous().numpy()
    for b in range(len(plain)):
        colours = (above[b].numpy(), shift[b].numpy(), found[b].numpy())
        in_chunks(lambda a, z, colours=colours: pull_image(*colours, a, z), plain.shape[1], _ROWS)
        pull_positions(
            plain[b].numpy(), above[b].numpy(), shift[b].numpy(), edge[b].numpy(), clip[b], mesh, moved[b].numpy()
        )
    return found.to(image.dtype), moved.to(positions.dtype)
