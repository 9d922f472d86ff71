"""Colors of faces' corners from factors, vertex colors and textures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from maquette.types import Material
    from maquette_data3d.ingest.parts import Part
    from maquette_data3d.ingest.pictures import Pictures

GREY = (158, 166, 176)
_INWARDS = 0.04  # share of the way to the middle of a face: corners of texture islands bleed


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB uint8 (IEC 61966-2-1)."""
    light = np.clip(light, 0.0, 1.0)
    curve = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(curve * 255).astype(np.uint8)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


_LIGHT_OF_BYTE = to_linear(np.arange(256) / 255.0).astype(np.float32)


def light_of(srgb: np.ndarray) -> np.ndarray:
    """sRGB uint8 to linear light float32."""
    return _LIGHT_OF_BYTE[srgb]


def corner_colors(part: Part, materials: Sequence[Material], pictures: Pictures) -> np.ndarray:
    """sRGB uint8 [F, 3, 3] of each corner of each face; grey where the file says nothing of color."""
    colors = np.empty((len(part.faces), 3, 3), np.uint8)
    of_face = np.broadcast_to(np.asarray(part.material), len(part.faces))
    for place in np.unique(of_face):
        faces = slice(None) if np.ndim(part.material) == 0 else np.flatnonzero(of_face == place)
        material = materials[place] if 0 <= place < len(materials) else None
        colors[faces] = _painted(part, faces, material, pictures)
    return colors


def _painted(part: Part, faces: slice | np.ndarray, material: Material | None, pictures: Pictures) -> np.ndarray:
    tint = None if part.tint is None else np.nan_to_num(part.tint[faces])
    if material is None:
        return np.array(GREY, np.uint8) if tint is None else to_srgb(tint)
    factor = np.asarray(material.base_color[:3], np.float32)
    texels = None
    if part.uv is not None and "base_color" in material.textures:
        texels = pictures.texels(material.textures["base_color"])
    if texels is None:
        if tint is None:
            return to_srgb(factor)
        return to_srgb(tint if part.paints else tint * factor)
    uv = np.asarray(part.uv, np.float64)[faces] if part.uv is not None else np.zeros((0, 3, 2))
    seen = _sampled(texels, uv + (uv.mean(axis=1, keepdims=True) - uv) * _INWARDS)
    if tint is None and np.allclose(factor, 1.0):
        return seen
    return to_srgb(light_of(seen) * factor * (1.0 if tint is None else tint))


def _sampled(texels: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texels uint8 [..., 3]; textures repeat, v grows downwards."""
    height, width = texels.shape[:2]
    uv = np.where(np.abs(uv) < 1e9, uv, 0.0)  # NaN too
    x = np.minimum((uv[..., 0] % 1.0 * width).astype(np.int64), width - 1)
    y = np.minimum((uv[..., 1] % 1.0 * height).astype(np.int64), height - 1)
    return texels[y, x]
