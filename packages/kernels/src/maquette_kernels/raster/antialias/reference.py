"""The obvious code for ``antialias``: all pairs of neighbouring pixels at once, first side by side."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maquette_kernels.raster.screen import is_safe, project

THINNEST = 2.0**-10
"""Pixels that an edge must extend across the direction between two pixels; shorter ones are lost in rounding."""


class _Mesh(NamedTuple):
    """A batch's mesh for one direction: ``snapped`` int64 and ``true`` float64 [B, V, 2] along and across it."""

    snapped: Tensor
    true: Tensor
    safe: Tensor
    faces: Tensor
    opposites: Tensor


def reference(
    image: Tensor, face_id: Tensor, depth: Tensor, positions: Tensor, faces: Tensor, opposites: Tensor
) -> Tensor:
    """Each pixel of a crossed pair takes the share of the other's colour that the edge covers of it."""
    shift, _ = residuals(image, face_id, depth, positions, faces, opposites)
    dtype = torch.promote_types(torch.promote_types(image.dtype, positions.dtype), torch.float32)
    plain, total = image.to(dtype), image.to(dtype)
    for axis, dim in ((0, 2), (1, 1)):
        size = image.shape[dim]
        first, second = (plain.narrow(dim, start, max(size - 1, 0)) for start in (0, min(1, size)))
        moved = shift[:, axis].narrow(dim, 0, max(size - 1, 0)).to(dtype).unsqueeze(-1)
        to_second = torch.where(moved > 0, moved, 0) * (first - second)
        to_first = torch.where(moved > 0, 0, -moved) * (second - first)
        total = total + _padded(to_first, dim, size, behind=True) + _padded(to_second, dim, size, behind=False)
    return total.to(image.dtype)


def residuals(
    image: Tensor, face_id: Tensor, depth: Tensor, positions: Tensor, faces: Tensor, opposites: Tensor
) -> tuple[Tensor, Tensor]:
    """Where the edge crosses between each pixel and the next, from the middle of the two, [B, 2, H, W] (to the right,
    then below), and which edge, int32: 3 * face + its number in the face; -1: none, and a shift of 0.
    """
    batch, height, width = face_id.shape
    shape = (batch, 2, height, width)
    if not face_id.numel() or not len(faces):
        return positions.new_zeros(shape), face_id.new_full(shape, -1)
    clip = positions.double()
    flat = clip.detach().reshape(-1, 4)
    screen = project(flat, is_safe(flat, height, width), height, width)
    safe = screen.safe.view(batch, -1)
    x, y, _, w = torch.where(safe.unsqueeze(-1), clip, 1.0).unbind(-1)
    true = torch.stack([(x / w + 1) * (0.5 * width), (y / w + 1) * (0.5 * height)], -1)
    snapped = screen.xy.long().view(batch, -1, 2)
    beside = _crossings(face_id, depth, _Mesh(snapped, true, safe, faces, opposites), upright=False)
    turned = _Mesh(snapped.flip(-1), true.flip(-1), safe, faces, opposites)
    below = [part.mT for part in _crossings(face_id.mT, depth.mT, turned, upright=True)]
    shift, edge = (torch.stack([a, b], 1) for a, b in zip(beside, below, strict=True))
    return shift.to(positions.dtype), edge.to(torch.int32)


def _crossings(ids: Tensor, depth: Tensor, mesh: _Mesh, *, upright: bool) -> tuple[Tensor, Tensor]:
    """Shift and edge between each pixel and the next of its row."""
    batch, rows, columns = ids.shape
    if columns < 2:
        return mesh.true.new_zeros(ids.shape), ids.new_full(ids.shape, -1)
    p, q = ids[..., :-1], ids[..., 1:]
    front = (p >= 0) & ((q < 0) | (depth[..., :-1] <= depth[..., 1:]))
    face = torch.where(front, p, q)
    corners = mesh.faces.long()[face.clamp(min=0).long()]  # [B, R, C, 3]
    picture = torch.arange(batch, device=ids.device)[:, None, None, None]
    column = torch.arange(columns - 1, device=ids.device)
    row = torch.arange(rows, device=ids.device)[:, None]
    here, there = torch.where(front, column, column + 1) * 256 + 128, torch.where(front, column + 1, column) * 256 + 128
    at, xy = row * 256 + 128, mesh.snapped[picture, corners]
    orientation = _beside(xy[..., 0, :], xy[..., 1, :], xy[..., 2, 0], xy[..., 2, 1]).sign()
    nearest = torch.full_like(mesh.true[:1, :1, 0].expand(p.shape), 2.0)
    which = torch.full(p.shape, -1, device=ids.device)
    for k in range(3):
        a, b = xy[..., k, :], xy[..., (k + 1) % 3, :]
        inside, outside = (orientation * _beside(a, b, along, at) for along in (here, there))
        share = inside.double() / torch.where(inside == outside, 1, inside - outside)
        first = (inside >= 0) & (outside <= 0) & (inside > outside) & (share < nearest)
        nearest, which = torch.where(first, share, nearest), torch.where(first, k, which)
    kept = (p != q) & (which >= 0) & mesh.safe[picture, corners].all(-1) & (orientation != 0)
    shift, blended = _shift(mesh, (face, which, orientation, corners, picture), at, upright)
    shift = shift - (column + 1)
    shift = shift.detach().clamp(-0.5, 0.5) + (shift - shift.detach())
    kept = kept & blended
    shift, edge = torch.where(kept, shift, 0.0), torch.where(kept, face * 3 + which, -1)
    return torch.nn.functional.pad(shift, (0, 1)), torch.nn.functional.pad(edge, (0, 1), value=-1)


def _shift(mesh: _Mesh, found: tuple[Tensor, ...], at: Tensor, upright: bool) -> tuple[Tensor, Tensor]:
    """Where the found edge crosses the row, and whether it is one to blend: steep, and an outline."""
    face, which, orientation, corners, picture = found
    k = which.clamp(min=0).unsqueeze(-1)
    ends = torch.cat([corners.gather(-1, k), corners.gather(-1, (k + 1) % 3)], -1)
    snapped, true = mesh.snapped[picture, ends], mesh.true[picture, ends]
    run, rise = (snapped[..., 1, :] - snapped[..., 0, :]).abs().unbind(-1)
    steep = rise > run if upright else rise >= run
    opposite = mesh.opposites.long()[face.clamp(min=0).long()].gather(-1, k)
    other = mesh.snapped[picture, opposite.clamp(min=0)][..., 0, :]
    folds = orientation * _beside(snapped[..., 0, :], snapped[..., 1, :], other[..., 0], other[..., 1]) >= 0
    outline = (opposite < 0) | (folds.unsqueeze(-1) & mesh.safe[picture, opposite.clamp(min=0)])
    along, across = true.unbind(-1)
    extent = across[..., 1] - across[..., 0]
    long = extent.detach().abs() > THINNEST
    share = (at / 256 - across[..., 0]) / torch.where(long, extent, 1.0)
    return along[..., 0] + share * (along[..., 1] - along[..., 0]), steep & long & outline.squeeze(-1)


def _beside(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Twice the signed area of triangles (a, b, (x, y))."""
    return (b[..., 0] - a[..., 0]) * (y - a[..., 1]) - (b[..., 1] - a[..., 1]) * (x - a[..., 0])


def _padded(part: Tensor, dim: int, size: int, *, behind: bool) -> Tensor:
    """``part`` with a row or column of zeros added, so that it has the picture's size again."""
    if not size:
        return part
    zero = part.new_zeros(*part.shape[:dim], 1, *part.shape[dim + 1 :])
    return torch.cat([part, zero] if behind else [zero, part], dim)
