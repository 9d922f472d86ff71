"""Light on a surface, pixel by pixel, in compiled code: a GGX surface under lamps and a dome.

The surface is that of glTF 2.0's appendix B (Khronos): GGX distribution (Walter et al. 2007), Schlick's Fresnel
term, the height-correlated visibility's fast form (Hammon 2017). The dome's reflection uses Karis' fit of the
environment term (Physically Based Shading on Mobile, 2014).
"""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import math

import numpy as np
from numba import njit

from maquette_data3d.rendering.textures import LINEAR, level_of, texel_mix

_BYTES = (np.arange(256) / 255).astype(np.float32)
_STEPS = 16384
_ramp = np.arange(_STEPS + 1) / _STEPS
DISPLAY = (np.where(_ramp <= 0.0031308, _ramp * 12.92, 1.055 * _ramp ** (1 / 2.4) - 0.055) * 255).astype(np.float32)
"""sRGB in [0, 255] of linear light in steps of 1 / 16384."""


@njit(cache=True, nogil=True, inline="always")
def display(light):
    """sRGB in [0, 255] of linear light."""
    return DISPLAY[int(min(max(light, 0.0), 1.0) * _STEPS + 0.5)]


@njit(cache=True, nogil=True, inline="always")
def shoulder(light):
    """Light that may pass 1, bent softly below 1."""
    return light if light <= 0.7 else 0.7 + 0.3 * (1.0 - math.exp(-(light - 0.7) / 0.3))


@njit(cache=True, nogil=True, inline="always")
def texture_place(uv, f, v, w):
    """Texture coordinates at a point of a triangle."""
    u = 1.0 - v - w
    return u * uv[f, 0, 0] + v * uv[f, 1, 0] + w * uv[f, 2, 0], u * uv[f, 0, 1] + v * uv[f, 1, 1] + w * uv[f, 2, 1]


@njit(cache=True, nogil=True, inline="always")
def _areas(uv, screen, faces, f):
    """Twice the area of a triangle on its image, as a share of it, and on the screen, in pixels."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    texture = (uv[f, 1, 0] - uv[f, 0, 0]) * (uv[f, 2, 1] - uv[f, 0, 1]) - (uv[f, 1, 1] - uv[f, 0, 1]) * (
        uv[f, 2, 0] - uv[f, 0, 0]
    )
    pixels = (screen[j, 0] - screen[i, 0]) * (screen[k, 1] - screen[i, 1]) - (screen[j, 1] - screen[i, 1]) * (
        screen[k, 0] - screen[i, 0]
    )
    return texture, pixels


@njit(cache=True, nogil=True, inline="always")
def material_at(corner_colors, uv, material, factors, images, texels, levels, screen, faces, f, v, w, footprint, out):
    """What the surface is made of at a point of a triangle, into `out` float64 [8].

    Linear base colour, metallic, roughness, linear emission.

    Args:
        corner_colors, uv, material, factors, images, texels, levels: of a `Look` and its textures; apart, because
            taking arrays out of tuples for each point costs more than all the rest.
        footprint: how many of the screen's cells the point stands for.
    """
    m = material[f]
    for c in range(8):
        out[c] = factors[m, c]
    base, rough, glow = images[m, 0], images[m, 1], images[m, 2]
    if base < 0:
        u = 1.0 - v - w
        for c in range(3):
            a, b, d = corner_colors[f, 0, c], corner_colors[f, 1, c], corner_colors[f, 2, c]
            out[c] = u * LINEAR[a] + v * LINEAR[b] + w * LINEAR[d]
    if base < 0 and rough < 0 and glow < 0:
        return
    x, y = texture_place(uv, f, v, w)
    texture, pixels = _areas(uv, screen, faces, f)
    pixels /= footprint
    if base >= 0:
        level = level_of(levels, base, texture, pixels)
        red, green, blue, _ = texel_mix(texels, levels, base, level, x, y, LINEAR)
        out[0], out[1], out[2] = out[0] * red, out[1] * green, out[2] * blue
    if rough >= 0:
        level = level_of(levels, rough, texture, pixels)
        _, green, blue, _ = texel_mix(texels, levels, rough, level, x, y, _BYTES)
        out[3], out[4] = out[3] * blue, out[4] * green
    if glow >= 0:
        level = level_of(levels, glow, texture, pixels)
        red, green, blue, _ = texel_mix(texels, levels, glow, level, x, y, LINEAR)
        out[5], out[6], out[7] = out[5] * red, out[6] * green, out[7] * blue


@njit(cache=True, nogil=True, inline="always")
def point_at(vertices, normals, faces, f, v, w, eye, out):
    """Position, smooth unit normal and flat unit normal at a point of a triangle, into `out` float64 [9].

    Both normals are turned to the side of the triangle that the eye is on.
    """
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    u = 1.0 - v - w
    for c in range(3):
        out[c] = u * vertices[i, c] + v * vertices[j, c] + w * vertices[k, c]
        out[3 + c] = u * normals[f, 0, c] + v * normals[f, 1, c] + w * normals[f, 2, c]
    ax, ay, az = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
    bx, by, bz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
    out[6], out[7], out[8] = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    side = (eye[0] - out[0]) * out[6] + (eye[1] - out[1]) * out[7] + (eye[2] - out[2]) * out[8]
    flat = math.copysign(math.sqrt(out[6] ** 2 + out[7] ** 2 + out[8] ** 2) + 1e-300, side)
    smooth = math.sqrt(out[3] ** 2 + out[4] ** 2 + out[5] ** 2)
    for c in range(3):
        out[6 + c] /= flat
        out[3 + c] = out[3 + c] / math.copysign(smooth, side) if smooth > 1e-6 else out[6 + c]


@njit(cache=True, nogil=True, inline="always")
def lit(point, material, eye, directions, colors, dome, shadow, out):
    """Light that a point sends to the eye, linear RGB, into `out` float64 [3].

    Args:
        point: float64 [9] of `point_at`; material: float64 [8] of `material_at`; directions, colors, dome: of a
            `Lighting`; shadow: share of the first lamp's light that does not arrive.
    """
    nx, ny, nz = point[3], point[4], point[5]
    vx, vy, vz = eye[0] - point[0], eye[1] - point[1], eye[2] - point[2]
    scale = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
    vx, vy, vz = vx * scale, vy * scale, vz * scale
    facing = max(nx * vx + ny * vy + nz * vz, 1e-3)
    metallic, rough = min(max(material[3], 0.0), 1.0), min(max(material[4], 0.08), 1.0)
    up, reflected = 0.5 + 0.5 * ny, 2.0 * facing * ny - vy
    # A rough surface mirrors a wider, hence greyer part of the dome.
    above = 0.5 + 0.5 * math.tanh(reflected * 3.0 * (1.0 - rough) + reflected * 0.8)
    scale_f, bias_f = _environment(rough, facing)
    for c in range(3):
        f0 = 0.04 * (1.0 - metallic) + material[c] * metallic
        diffuse = material[c] * (1.0 - metallic)
        out[c] = diffuse * (dome[0, c] * up + dome[1, c] * (1.0 - up)) + material[5 + c]
        out[c] += (f0 * scale_f + bias_f) * (dome[0, c] * above + dome[1, c] * (1.0 - above)) * (1.0 + metallic)
    for lamp in range(directions.shape[0]):
        lx, ly, lz = directions[lamp, 0], directions[lamp, 1], directions[lamp, 2]
        toward = nx * lx + ny * ly + nz * lz
        if toward <= 0.0:
            continue
        arrives = toward * (1.0 - shadow) if lamp == 0 else toward
        gloss, fresnel = _highlight(nx, ny, nz, vx + lx, vy + ly, vz + lz, lx, ly, lz, rough, facing, toward)
        for c in range(3):
            f0 = 0.04 * (1.0 - metallic) + material[c] * metallic
            reflects = f0 + (1.0 - f0) * fresnel
            diffuse = material[c] * (1.0 - metallic) * (1.0 - reflects)
            out[c] += arrives * colors[lamp, c] * (diffuse + min(gloss, 40.0) * reflects)


@njit(cache=True, nogil=True, inline="always")
def _highlight(nx, ny, nz, hx, hy, hz, lx, ly, lz, rough, facing, toward):
    """GGX distribution times visibility (for lamps of colour 1 = pi), and Schlick's fifth power."""
    scale = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
    hx, hy, hz = hx * scale, hy * scale, hz * scale
    half, grazing = max(nx * hx + ny * hy + nz * hz, 0.0), max(lx * hx + ly * hy + lz * hz, 0.0)
    alpha = rough * rough
    spread = half * half * (alpha * alpha - 1.0) + 1.0
    both = 2.0 * toward * facing
    visibility = 0.5 / (both * (1.0 - alpha) + (toward + facing) * alpha + 1e-6)
    rest = 1.0 - grazing
    return alpha * alpha / (spread * spread) * visibility, rest * rest * rest * rest * rest


@njit(cache=True, nogil=True, inline="always")
def _environment(rough, facing):
    """Scale and bias of f0 for light from all around."""
    a = 1.0 - rough
    b = min(a * a, 2.0 ** (-9.28 * facing)) * a + rough * -0.0275 + 0.0425
    return -1.04 * b + rough * -0.572 + 1.04, max(1.04 * b + rough * 0.022 - 0.04, 0.0)
