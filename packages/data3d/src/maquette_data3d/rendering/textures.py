"""Images of materials, decoded and halved down to one texel, in one array that compiled code can read."""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from maquette.errors import MaquetteError
from maquette.image_loading import opened_image

LINEAR = np.where(
    (_steps := np.arange(256) / 255) <= 0.04045, _steps / 12.92, ((_steps + 0.055) / 1.055) ** 2.4
).astype(np.float32)
"""Linear light of each sRGB byte (IEC 61966-2-1)."""
_LARGEST = 2048


class Textures(NamedTuple):
    """Images and their halvings, one behind the other.

    Attributes:
        texels: uint8 [T, 4] RGBA as stored.
        levels: int64 [images, most levels, 3]: first texel, width, height; zeros past an image's last level.
    """

    texels: np.ndarray
    levels: np.ndarray


def decoded(images: Sequence[bytes]) -> Textures:
    """Decodes PNG, JPEG or WebP files; larger ones are made to fit 2048 pixels a side.

    Raises:
        MaquetteError: an image cannot be read or has more than 64 megapixels.
    """
    pyramids = [_pyramid(_pixels(data, number)) for number, data in enumerate(images)]
    levels = np.zeros((len(pyramids), max(map(len, pyramids), default=1), 3), np.int64)
    start = 0
    for number, pyramid in enumerate(pyramids):
        for place, level in enumerate(pyramid):
            levels[number, place] = start, level.shape[1], level.shape[0]
            start += level.shape[0] * level.shape[1]
    flat = [level.reshape(-1, 4) for pyramid in pyramids for level in pyramid]
    return Textures(np.concatenate(flat) if flat else np.zeros((1, 4), np.uint8), levels)


def _pixels(data: bytes, number: int) -> np.ndarray:
    from PIL import Image

    try:
        with opened_image(data) as image:
            image.draft("RGB", (_LARGEST, _LARGEST))
            whole = image.convert("RGBA")
    except MaquetteError as error:
        raise MaquetteError(f"texture {number} is no image that can be read: {error}") from None
    if max(whole.size) > _LARGEST:
        whole.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
    return np.asarray(whole)


def _pyramid(pixels: np.ndarray) -> list[np.ndarray]:
    """The image and its halvings down to one texel."""
    from PIL import Image

    levels = [np.ascontiguousarray(pixels)]
    while max(levels[-1].shape[:2]) > 1:
        height, width = (max(side // 2, 1) for side in levels[-1].shape[:2])
        smaller = Image.fromarray(levels[-1]).resize((width, height), Image.Resampling.BOX)
        levels.append(np.ascontiguousarray(smaller))
    return levels


@njit(cache=True, nogil=True, inline="always")
def level_of(levels, image, texture_area, pixel_area):
    """The halving of an image whose texels are about as large as a pixel.

    Args:
        texture_area: of a triangle as a share of the whole image; pixel_area: of the same triangle in pixels.
    """
    texels = abs(texture_area) * levels[image, 0, 1] * levels[image, 0, 2]
    level = int(0.5 * math.log2(max(texels / max(abs(pixel_area), 1e-9), 1.0)) + 0.5)
    while level > 0 and (level >= levels.shape[1] or levels[image, level, 1] == 0):
        level -= 1
    return level


@njit(cache=True, nogil=True, inline="always")
def texel_mix(texels, levels, image, level, u, v, linear):
    """Bilinear RGBA in [0, 1] at (u, v), v downwards from the first row; the image repeats.

    Args:
        linear: float32 [256] what a byte of red, green and blue stands for; alpha is always byte / 255.
    """
    start, width, height = levels[image, level, 0], levels[image, level, 1], levels[image, level, 2]
    x, y = (u - math.floor(u)) * width - 0.5, (v - math.floor(v)) * height - 0.5
    i, j = math.floor(x), math.floor(y)
    s, t = x - i, y - j
    left, right, top, bottom = i % width, (i + 1) % width, j % height, (j + 1) % height
    a, b = texels[start + top * width + left], texels[start + top * width + right]
    c, d = texels[start + bottom * width + left], texels[start + bottom * width + right]
    wa, wb, wc, wd = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
    red = wa * linear[a[0]] + wb * linear[b[0]] + wc * linear[c[0]] + wd * linear[d[0]]
    green = wa * linear[a[1]] + wb * linear[b[1]] + wc * linear[c[1]] + wd * linear[d[1]]
    blue = wa * linear[a[2]] + wb * linear[b[2]] + wc * linear[c[2]] + wd * linear[d[2]]
    alpha = (wa * a[3] + wb * b[3] + wc * c[3] + wd * d[3]) / 255.0
    return red, green, blue, alpha
