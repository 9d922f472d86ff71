"""Pictures before they are encoded: framed by what they show, laid on a background, normalised.

A picture's alpha says what belongs to the object. Where there is any transparency the object's bounding box is centred
and fills most of the frame, in training as in use, so that it does not matter how a user's picture is cut. An opaque
picture is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError

MARGIN = 1.15  # the frame's side, of the longer side of what it shows
OPAQUE = 0.99
SEEN = 0.1
LARGEST = 4  # users' pictures are reduced to so many times the side that the encoder sees


def stack_pictures(images: Sequence[NDArray[np.uint8]], size: int) -> Tensor:
    """Users' pictures, uint8 [H,W,3|4] each, as float32 [V,4,S,S] in [0,1], of one side S for all.

    Each is centred on transparency: an opaque picture that is not square becomes one with transparent bars.

    Raises:
        MaquetteError: not a picture.
    """
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4) or not image.size:
            raise MaquetteError(f"a picture must be uint8 [H, W, 3 or 4], got {image.dtype} {list(image.shape)}")
    cropped = [_cropped(image) for image in images]
    side = min(max(max(image.shape[:2]) for image in cropped), LARGEST * size)
    return torch.stack([_squared(image, side) for image in cropped])


def _cropped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is seen and one transparent pixel around it, so that reducing it loses less; an opaque picture as it is."""
    seen = image[..., 3] > SEEN * 255 if image.shape[2] == 4 else np.ones(image.shape[:2], bool)
    if seen.all() or not seen.any():
        return image
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    found = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(found, ((1, 1), (1, 1), (0, 0)))


def _squared(image: NDArray[np.uint8], side: int) -> Tensor:
    picture = rearrange(torch.from_numpy(np.ascontiguousarray(image)).float() / 255, "h w c -> c h w")
    if len(picture) == 3:
        picture = torch.cat([picture, torch.ones_like(picture[:1])])
    color, alpha = picture[:3] * picture[3:], picture[3:]
    height, width = picture.shape[1:]
    scale = side / max(height, width)
    target = [max(round(height * scale), 1), max(round(width * scale), 1)]
    small = F.interpolate(torch.cat([color, alpha])[None], target, mode="bilinear", antialias=scale < 1)[0]
    top, left = (side - target[0]) // 2, (side - target[1]) // 2
    whole = torch.zeros(4, side, side)
    whole[:, top : top + target[0], left : left + target[1]] = small
    return torch.cat([whole[:3] / whole[3:].clamp(min=1e-6), whole[3:]]).clamp(0, 1)


def framed(pictures: Tensor, size: int, jitter: Tensor | None = None) -> Tensor:
    """Pictures [N,4,S,S] with their objects centred, at another side: [N,4,size,size], colour multiplied by alpha.

    Args:
        pictures: sRGB and alpha in [0,1].
        size: side of the result.
        jitter: [N,3], by what share of the frame the object is moved along x and y, and how much it is scaled.
    """
    count, _, side, _ = pictures.shape
    alpha = pictures[:, 3]
    center, half = _boxes(alpha)
    if jitter is not None:
        center, half = center + jitter[:, :2] * half[:, None], half * (1 + jitter[:, 2])
    premultiplied = torch.cat([pictures[:, :3] * alpha[:, None], alpha[:, None]], dim=1)
    finer = max(round(side / size), 1)  # samples along a pixel: a large picture is averaged, not thinned out
    theta = pictures.new_zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = half, half, center
    grid = F.affine_grid(theta, [count, 4, size * finer, size * finer], align_corners=False)
    sampled = F.grid_sample(premultiplied, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(sampled, finer) if finer > 1 else sampled


def _boxes(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Centre [N,2] (x, y) and half side [N] of the frame of alphas [N,S,S], in coordinates from -1 to 1."""
    side = alpha.shape[-1]
    seen = alpha > SEEN
    edges = []
    for axis in (1, 2):  # over rows, which leaves columns (x), and over columns
        along = seen.any(dim=axis)
        first = along.float().argmax(dim=1)
        last = side - along.flip(1).float().argmax(dim=1)
        edges.append(torch.stack([first, last]).float() / side * 2 - 1)
    low, high = (torch.stack([edge[i] for edge in edges], dim=1) for i in (0, 1))
    whole = (alpha.amin(dim=(1, 2)) > OPAQUE) | ~seen.any(dim=2).any(dim=1)
    center = torch.where(whole[:, None], 0.0, (low + high) / 2)
    half = torch.where(whole, 1.0, (high - low).amax(dim=1) / 2 * MARGIN)
    return center, half


def on_background(premultiplied: Tensor, background: Tensor) -> Tensor:
    """[N,4,S,S] laid on colours [N,3]: opaque [N,3,S,S]."""
    return premultiplied[:, :3] + (1 - premultiplied[:, 3:]) * background[:, :, None, None]


def normalised(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[N,3,S,S] with an encoder's mean taken off and divided by its deviation, channel by channel."""
    center, scale = (torch.tensor(list(values), device=pictures.device).view(1, 3, 1, 1) for values in (mean, std))
    return (pictures - center) / scale
