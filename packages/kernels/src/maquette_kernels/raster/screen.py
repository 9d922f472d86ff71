"""From clip space to the screen: the rules that decide what a pixel sees, the same for every fast path.

Corners are rounded to 1/256 of a pixel, as graphics hardware does it, and coverage is decided in whole numbers: the
two faces of an edge cannot disagree, and an argument that is off by one unit in the last place hardly ever changes
what is seen. Depths are compared after rounding to 2^-29; of two equal ones the lower face is seen. All of this is in
float64, so that every device decides alike.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maquette_kernels.call import Call

SUBPIXEL = 256
"""Steps to a pixel that corners are rounded to."""
DEPTH_STEPS = 2.0**29
"""Steps of depth to one unit of ``z / w``, which goes from -1 to 1."""
FARTHEST = 2**30
MAX_SIDE = 16384
GUARD = 2**19
"""Faces that leave the picture by more than about ``GUARD / 2`` pixels are clipped, so that products fit in int64."""
FAR_DEPTH = 1.0
"""Depth of a pixel that sees nothing: the far plane's."""


class Screen(NamedTuple):
    """Vertices on the screen.

    Attributes:
        xy: int32 [N, 2], in 1/256 of a pixel; 0 where not ``safe``.
        z: float64 [N], ``z / w``.
        safe: bool [N], in front of the near plane and not far beside the picture; a face with another corner has to be
            clipped.
    """

    xy: Tensor
    z: Tensor
    safe: Tensor


def distances(clip: Tensor, height: int, width: int) -> Tensor:
    """Signed distances float64 [5, ...] of points [..., 4] to the near plane and four far beside the picture."""
    x, y, z, w = clip.unbind(-1)
    reach = float(GUARD // max(height, width, 1))
    return torch.stack([z + w, w * reach - x, w * reach + x, w * reach - y, w * reach + y])


def is_safe(clip: Tensor, height: int, width: int) -> Tensor:
    """Whether points float64 [N, 4] can be projected as they are, bool [N]."""
    return (distances(clip, height, width) >= 0).all(0) & (clip[:, 3] > 0) & clip.isfinite().all(-1)


def project(clip: Tensor, safe: Tensor, height: int, width: int) -> Screen:
    """Points float64 [N, 4] in clip space on a screen of ``height`` rows and ``width`` columns."""
    x, y, z, w = torch.where(safe[:, None], clip, clip.new_ones(())).unbind(-1)
    columns = ((x / w + 1) * (0.5 * width) * SUBPIXEL + 0.5).floor()
    rows = ((y / w + 1) * (0.5 * height) * SUBPIXEL + 0.5).floor()
    return Screen(torch.stack([columns, rows], -1).to(torch.int32), z / w, safe)


def validate_mesh(call: Call) -> str | None:
    """What is wrong with ``positions`` and ``faces``, or None."""
    positions, faces = call["positions"], call["faces"]
    if len(positions.shape) != 3 or positions.shape[-1] != 4:
        return f"positions must be [B, V, 4] in clip space, got {list(positions.shape)}"
    if not positions.dtype.is_floating_point or positions.dtype.itemsize < 4:
        return f"positions must be float32 or float64, got {positions.dtype}"
    return validate_faces(faces)


def validate_faces(faces: object) -> str | None:
    """What is wrong with an operand of faces, or None."""
    shape, dtype = faces.shape, faces.dtype  # type: ignore[attr-defined]
    if len(shape) != 2 or shape[-1] != 3 or dtype != torch.int32:
        return f"faces must be int32 [F, 3], got {dtype} {list(shape)}"
    return None


def validate_sides(height: int, width: int) -> str | None:
    """What is wrong with the size of a picture, or None."""
    if not (0 <= height <= MAX_SIDE and 0 <= width <= MAX_SIDE):
        return f"pictures have at most {MAX_SIDE} rows and columns, got {height} x {width}"
    return None
