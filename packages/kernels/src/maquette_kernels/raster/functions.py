"""Rendering with gradients, as plain functions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.raster import topology
from maquette_kernels.raster.antialias import ANTIALIAS
from maquette_kernels.raster.interpolate import INTERPOLATE
from maquette_kernels.raster.rasterise import RASTERISE


def rasterise(positions: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which triangle each pixel sees, where on it, and how far away.

    The middle of pixel (row r, column c) is at ``x / w = (2 c + 1) / width - 1``, ``y / w = (2 r + 1) / height - 1``:
    row 0 has the lowest y. Pictures with the sky at row 0 come from a projection that turns y round. Both sides of a
    face are drawn; faces are cut at the near plane ``z = -w``, and pixels beyond ``z = w`` are left out. Corners are
    rounded to 1/256 of a pixel to decide what is covered, so that each pixel on a shared edge belongs to one of its two
    faces (the top-left rule), and depths to 2^-29; of two equally near faces the lower number is seen.

    Args:
        positions: float32 (or float64) [B, V, 4], vertices of each picture in clip space (x, y, z, w). Finite; a face
            with another corner is not drawn.
        faces: int32 [F, 3], shared by the pictures. Not checked, which would stall a GPU.
        height: rows of the pictures, at most 16384.
        width: columns.

    Returns:
        face_id: int32 [B, H, W]; -1 where nothing is seen. No gradient: see ``antialias`` for that of edges.
        barycentrics: [B, H, W, 3], perspective-correct weights of the face's corners, each from 0 to 1, sum 1; 0 where
            nothing is seen. Gradients reach positions.
        depth: [B, H, W], ``z / w`` from -1 (near) to 1 (far, and where nothing is seen). Gradients reach positions.

    Raises:
        MaquetteError: shapes, dtypes, sizes or devices that do not fit.

    Source: homogeneous weights by Olano and Greer 1997; clipping by Sutherland and Hodgman 1974; as a part of
    differentiable rendering, Laine et al. 2020 (arXiv:2011.03277).
    """
    barycentrics, depth, face_id = RASTERISE(positions, faces, height, width)
    return face_id, barycentrics, depth


def rasterise_uv(uv: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which triangle each texel belongs to: bake with it by interpolating positions, normals or colours.

    Args:
        uv: float32 [V, 2]; texel (row r, column c) has its middle at ``u = (c + 0.5) / width``, ``v = (r + 0.5) /
            height``, as glTF counts them from the upper left.
        faces: int32 [F, 3], into ``uv``. Where they overlap the lowest number is taken.
        height: rows of the texture.
        width: columns.

    Returns:
        face_id: int32 [1, H, W], -1 outside the chart; barycentrics: [1, H, W, 3].

    Raises:
        MaquetteError: shapes, dtypes, sizes or devices that do not fit.
    """
    if uv.dim() != 2 or uv.shape[-1] != 2:
        raise MaquetteError(f"rasterise_uv: uv must be [V, 2], got {list(uv.shape)}")
    zeros, ones = uv.new_zeros(len(uv), 1), uv.new_ones(len(uv), 1)
    face_id, barycentrics, _ = rasterise(torch.cat([uv * 2 - 1, zeros, ones], -1)[None], faces, height, width)
    return face_id, barycentrics


def interpolate(attributes: Tensor, faces: Tensor, face_id: Tensor, barycentrics: Tensor) -> Tensor:
    """Attributes of vertices (colours, normals, texture coordinates) at each pixel.

    Args:
        attributes: [B, V, C], or [1, V, C] for all pictures, in float32, bfloat16, float16 or float64.
        faces: int32 [F, 3], into these attributes; may be others than those drawn, as where seams of texture double
            vertices, as long as their numbers mean the same faces.
        face_id: int32 [B, H, W], from ``rasterise``.
        barycentrics: float32 (or float64) [B, H, W, 3], from ``rasterise``.

    Returns:
        [B, H, W, C] in the dtype of the attributes; 0 where nothing is seen. Gradients reach attributes and weights.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.
    """
    return cast(Tensor, INTERPOLATE(attributes, faces, face_id, barycentrics))


def antialias(
    image: Tensor,
    face_id: Tensor,
    depth: Tensor,
    positions: Tensor,
    faces: Tensor,
    *,
    opposites: Tensor | None = None,
) -> Tensor:
    """Blends pixels along outlines by coverage, so that the picture changes smoothly as the mesh moves.

    For each pair of neighbouring pixels that see different faces, the nearer face's edge between them is found. Where
    it is an outline (no face on its other side, or one that is folded behind) and runs more along the border of the two
    pixels than across it, the pixel that it cuts takes the covered share of the other's colour. The gradient of that
    share is what moves vertices: that of the colours inside of faces comes from ``interpolate``.

    Args:
        image: [B, H, W, C], colours at the pixels' middles, in float32, bfloat16, float16 or float64.
        face_id: int32 [B, H, W], from ``rasterise``.
        depth: [B, H, W], from ``rasterise``; tells which face is in front. No gradient.
        positions: float32 (or float64) [B, V, 4], as given to ``rasterise``.
        faces: int32 [F, 3], as given to ``rasterise``; give them with vertices in one place merged, or seams of
            texture are blended as outlines.
        opposites: ``edge_opposites(faces)``, to be computed once for a mesh; by default it is computed here.

    Returns:
        [B, H, W, C] in the dtype of the image. Gradients reach image and positions.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Faces cut at the near plane have no outlines. Source: Laine et al. 2020 (arXiv:2011.03277), section 3.6.
    """
    across = topology.edge_opposites(faces) if opposites is None else opposites
    return cast(Tensor, ANTIALIAS(image, face_id, depth, positions, faces, across))


def edge_opposites(faces: Tensor) -> Tensor:
    """For each edge of each face, the third corner of the face on its other side.

    Args:
        faces: whole numbers [F, 3]. Edge k of a face goes from its corner k to the next.

    Returns:
        int32 [F, 3]; -1 where an edge is not shared by exactly two faces.

    Raises:
        MaquetteError: faces of another shape or dtype.
    """
    return topology.edge_opposites(faces)
