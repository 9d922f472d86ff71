"""Colours of a mesh as trimesh holds them - material, texture, faces or vertices - a corner."""

from __future__ import annotations

from typing import Any

import numpy as np

_GREY = (158, 166, 176)
_INWARDS = 0.04  # share of the way to the middle of a face: corners of texture islands bleed


def corner_colors(mesh: Any, faces: np.ndarray, linear: bool) -> np.ndarray:
    """sRGB uint8 [F, 3, 3] of each corner of each face.

    Args:
        mesh: a trimesh.Trimesh.
        faces: int64 [F, 3].
        linear: stored colours and factors are linear light, as glTF says; textures never are.
    """
    visual = mesh.visual
    kind = getattr(visual, "kind", None)
    colors = None
    if kind == "texture":
        colors = _material(visual, faces, linear)
    elif kind == "vertex":
        colors = _stored(np.asarray(visual.vertex_colors)[faces][..., :3], linear)
    elif kind == "face":
        colors = _stored(np.repeat(np.asarray(visual.face_colors)[:, None, :3], 3, axis=1), linear)
    if colors is None:
        colors = np.broadcast_to(np.array(_GREY, np.uint8), (len(faces), 3, 3))
    return np.ascontiguousarray(colors, np.uint8)


def _stored(colors: np.ndarray, linear: bool) -> np.ndarray:
    return to_srgb(colors / 255.0) if linear else colors


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB uint8 (IEC 61966-2-1)."""
    light = np.clip(light, 0.0, 1.0)
    curve = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(curve * 255).astype(np.uint8)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _material(visual: Any, faces: np.ndarray, linear: bool) -> np.ndarray | None:
    material = visual.material
    factor = getattr(material, "baseColorFactor", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if factor is None:
        factor = None if image is not None else getattr(material, "main_color", None)
    tint = np.ones(3) if factor is None else _unit(np.asarray(factor, np.float64)[:3])
    if image is None or visual.uv is None:
        if factor is None:
            return None
        flat = to_srgb(tint) if linear else np.round(tint * 255).astype(np.uint8)
        return np.broadcast_to(flat, (len(faces), 3, 3))
    uv = np.asarray(visual.uv, np.float64)[faces]
    uv = uv + (uv.mean(axis=1, keepdims=True) - uv) * _INWARDS
    seen = _sample(np.asarray(image.convert("RGB")), np.where(np.isfinite(uv), uv, 0.0))
    if np.allclose(tint, 1.0):
        return seen
    return to_srgb(to_linear(seen / 255.0) * tint)


def _unit(factor: np.ndarray) -> np.ndarray:
    return factor / 255.0 if factor.max(initial=0.0) > 1.0 else factor


def _sample(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texels uint8 [..., 3]; textures repeat, v points up as trimesh has it."""
    height, width = image.shape[:2]
    u, v = uv[..., 0] % 1.0, (1.0 - uv[..., 1]) % 1.0
    x = np.minimum((u * width).astype(np.int64), width - 1)
    y = np.minimum((v * height).astype(np.int64), height - 1)
    return image[y, x]
