"""One view in compiled code: what each pixel sees, its geometry and material, and its light at four samples."""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import math

import numpy as np
from numba import njit

from maquette_data3d.rendering.raster import shares
from maquette_data3d.rendering.shading import display, lit, material_at, point_at, shoulder, texture_place
from maquette_data3d.rendering.textures import LINEAR, texel_mix

SAMPLES = 2
"""Samples a pixel along each side, for the picture."""
_LOOKS = 12
_spiral = np.arange(_LOOKS)
_DISC = np.stack([np.sin(2.399963 * _spiral), np.cos(2.399963 * _spiral)], 1)
_DISC *= np.sqrt((_spiral + 0.5) / _LOOKS)[:, None]
"""Places over a unit disc, evenly, on Vogel's spiral (1979)."""


@njit(cache=True, nogil=True)
def draw_cut(look, screen, inverse_depth, faces, chosen, triangle, depth):
    """Draws triangles whose images have holes (alpha below one half) over what is there.

    Args:
        look: `Look.plain()`; chosen: int64 [K], the triangles; triangle, depth: as `raster.nearest` gives them,
            changed in place.
    """
    height, width = triangle.shape
    _, uv, kinds, _, images, _, (texels, levels) = look
    for f in chosen:
        a, b, c = screen[faces[f, 0]], screen[faces[f, 1]], screen[faces[f, 2]]
        behind = min(inverse_depth[faces[f, 0]], inverse_depth[faces[f, 1]], inverse_depth[faces[f, 2]]) <= 0.0
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if behind or area == 0.0:
            continue
        image = images[kinds[f], 0]
        for y in range(max(math.ceil(min(a[1], b[1], c[1]) - 0.5), 0), height):
            if y + 0.5 > max(a[1], b[1], c[1]):
                break
            for x in range(max(math.ceil(min(a[0], b[0], c[0]) - 0.5), 0), width):
                if x + 0.5 > max(a[0], b[0], c[0]):
                    break
                px, py = x + 0.5 - a[0], y + 0.5 - a[1]
                s = (px * (c[1] - a[1]) - py * (c[0] - a[0])) / area
                t = ((b[0] - a[0]) * py - (b[1] - a[1]) * px) / area
                if s < 0.0 or t < 0.0 or s + t > 1.0:
                    continue
                z, v, w = shares(screen, inverse_depth, faces, f, x + 0.5, y + 0.5)
                if np.float32(z) <= depth[y, x]:
                    continue
                across, down = texture_place(uv, f, v, w)
                if texel_mix(texels, levels, image, 0, across, down, LINEAR)[3] >= 0.5:
                    triangle[y, x], depth[y, x] = f, z


@njit(cache=True, nogil=True)
def measure(look, vertices, normals, faces, screen, inverse_depth, triangle, eye, depth, normal, position, albedo, mr):
    """Geometry and material at the middle of each pixel that sees a triangle, into the last five arrays.

    Args:
        look: `Look.plain()`; depth: float32 [S, S]; normal, position: float32 [S, S, 3]; albedo: uint8 [S, S, 3]
            sRGB; mr: uint8 [S, S, 2] metallic and roughness in 1 / 255. Pixels that see nothing stay as they are.
    """
    corner_colors, uv, kinds, factors, images, _, (texels, levels) = look
    point, material = np.empty(9), np.empty(8)
    for y in range(triangle.shape[0]):
        for x in range(triangle.shape[1]):
            f = triangle[y, x]
            if f < 0:
                continue
            z, v, w = shares(screen, inverse_depth, faces, f, x + 0.5, y + 0.5)
            point_at(vertices, normals, faces, f, v, w, eye, point)
            material_at(corner_colors, uv, kinds, factors, images, texels, levels, screen, faces, f, v, w, 1, material)
            depth[y, x] = 1.0 / z
            for c in range(3):
                position[y, x, c], normal[y, x, c] = point[c], point[3 + c]
                albedo[y, x, c] = int(display(material[c]) + 0.5)
            mr[y, x, 0] = int(min(max(material[3], 0.0), 1.0) * 255 + 0.5)
            mr[y, x, 1] = int(min(max(material[4], 0.0), 1.0) * 255 + 0.5)


@njit(cache=True, nogil=True, inline="always")
def _shadow(point, light, heights, soft):
    """Share of the first lamp that looks around a point find hidden; heights cover [-1, 1] of light space."""
    size = heights.shape[0]
    scale = size / 2.0
    px, py, pz = point[0] + 0.012 * point[6], point[1] + 0.012 * point[7], point[2] + 0.012 * point[8]
    x = (light[0, 0] * px + light[0, 1] * py + light[0, 2] * pz + 1.0) * scale
    y = (light[1, 0] * px + light[1, 1] * py + light[1, 2] * pz + 1.0) * scale
    z = light[2, 0] * px + light[2, 1] * py + light[2, 2] * pz + 0.006
    over = 0
    for s in range(_LOOKS):
        i, j = int(y + soft * scale * _DISC[s, 0]), int(x + soft * scale * _DISC[s, 1])
        if 0 <= i < size and 0 <= j < size and heights[i, j] - 2.0 > z:
            over += 1
    return over / _LOOKS


@njit(cache=True, nogil=True, inline="always")
def _together(triangle, y, x, s):
    """Middle and number of a pixel's samples that see the same triangle as sample `s`; 0 when an earlier one did.

    A triangle is lit once a pixel, as multisampling does it.
    """
    f = triangle[SAMPLES * y + s // SAMPLES, SAMPLES * x + s % SAMPLES]
    across, down, same = 0.0, 0.0, 0
    for t in range(SAMPLES * SAMPLES):
        i, j = SAMPLES * y + t // SAMPLES, SAMPLES * x + t % SAMPLES
        if triangle[i, j] == f:
            if t < s:
                return 0.0, 0.0, 0
            across, down, same = across + j + 0.5, down + i + 0.5, same + 1
    return across / same, down / same, same


@njit(cache=True, nogil=True)
def paint(look, vertices, normals, faces, screen, inverse_depth, triangle, eye, lighting, light, heights, shade, out):
    """The picture, into uint8 [S, S, 4]: colours of the samples that see the surface, and the share of those.

    Args:
        look: `Look.plain()`; lighting: directions, colours and dome; screen: positions in samples; triangle: int32
            [2 S, 2 S]; light: rotation [3, 3] towards the first lamp; heights: map of heights + 2 towards it;
            shade: (how dark shadows are, how soft); below zero: no light, the base colour as it is.
    """
    corner_colors, uv, kinds, factors, images, _, (texels, levels) = look
    directions, colors, dome = lighting
    darkness, soft = shade
    point, material, color, total = np.empty(9), np.empty(8), np.empty(3), np.empty(3)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            total[0], total[1], total[2], count = 0.0, 0.0, 0.0, 0
            for s in range(SAMPLES * SAMPLES):
                f = triangle[SAMPLES * y + s // SAMPLES, SAMPLES * x + s % SAMPLES]
                if f < 0:
                    continue
                across, down, same = _together(triangle, y, x, s)
                if same == 0:
                    continue
                count += same
                _, v, w = shares(screen, inverse_depth, faces, f, across, down)
                material_at(
                    corner_colors, uv, kinds, factors, images, texels, levels, screen, faces, f, v, w, same, material
                )
                if darkness < 0.0:
                    for c in range(3):
                        total[c] += same * material[c]
                    continue
                point_at(vertices, normals, faces, f, v, w, eye, point)
                hidden = darkness * _shadow(point, light, heights, soft) if darkness > 0.0 else 0.0
                lit(point, material, eye, directions, colors, dome, hidden, color)
                for c in range(3):
                    total[c] += same * shoulder(color[c])
            if count:
                out[y, x, 3] = (255 * count + 2) // (SAMPLES * SAMPLES)
                for c in range(3):
                    out[y, x, c] = int(display(total[c] / count) + 0.5)
