"""Textures and the surface under them: which face each texel lies on, and how empty texels are filled.

Baking asks for every texel that a lookup near a chart can touch, not only for those whose middle lies on it; slivers
that pass between the middles of texels would stay bare otherwise.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.raster.functions import rasterise_uv

_REACH = 0.5  # squared distance, in texels, from the middle of a texel to its corner
_FAR = 2**30


def texel_surface(uv: Tensor, size: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The point of the surface that each texel of an atlas shows.

    A texel belongs to the face that covers its middle (of several the lowest number), else to the nearest face within
    half a texel's diagonal of it: then the point is the face's nearest. So every texel that a face touches is
    covered, however thin the face. The middles go through ``rasterise``; the borders are found on the CPU.

    Args:
        uv: float32 [F, 3, 2], of each face's corners; (0, 0) is the upper left, as in glTF. Finite. What lies outside
            the unit square shows nowhere.
        size: side of the atlas, or its height and width, in texels.

    Returns:
        face: int32 [H, W], -1 where no face is.
        barycentric: float32 [H, W, 3], weights of the face's corners, each from 0 to 1, sum 1; 0 where no face is.

    Raises:
        MaquetteError: shapes or sizes that do not fit.
    """
    if uv.dim() != 3 or tuple(uv.shape[1:]) != (3, 2):
        raise MaquetteError(f"texel_surface: uv must be [F, 3, 2], got {list(uv.shape)}")
    height, width = (size, size) if isinstance(size, int) else size
    uv = uv.detach().float()
    corners = torch.arange(3 * len(uv), dtype=torch.int32, device=uv.device).view(-1, 3)
    face_id, weights = rasterise_uv(uv.reshape(-1, 2), corners, height, width)
    face, barycentric = face_id[0].cpu().numpy().copy(), weights[0].float().cpu().numpy().copy()
    texels = uv.cpu().numpy().astype(np.float64) * (width, height)
    _cover_borders(texels, face, barycentric)
    return torch.from_numpy(face).to(uv.device), torch.from_numpy(barycentric).to(uv.device)


def dilate(image: Tensor, covered: Tensor) -> Tensor:
    """Fills what no chart covers from the nearest covered texel, so that filtering at seams finds no background.

    Args:
        image: [H, W, C], any dtype; covered: bool [H, W].

    Returns:
        [H, W, C]; the image as it is where nothing is covered.

    Raises:
        MaquetteError: shapes that do not fit.

    Source: Felzenszwalb and Huttenlocher 2012, Distance Transforms of Sampled Functions.
    """
    if image.dim() != 3 or covered.shape != image.shape[:2]:
        raise MaquetteError(f"dilate: image [H, W, C] and covered [H, W], got {[*image.shape]} and {[*covered.shape]}")
    if not bool(covered.any()):
        return image.clone()
    row, column = _nearest_covered(covered.cpu().numpy())
    return image[torch.from_numpy(row).to(image.device), torch.from_numpy(column).to(image.device)]


@njit(cache=True, nogil=True)
def _cover_borders(texels, face, barycentric):
    """Gives texels without a face to the nearest one in reach, in place; ``texels`` float64 [F, 3, 2]."""
    height, width = face.shape
    nearest = np.full((height, width), np.inf)
    for f in range(len(texels)):
        low = np.array([texels[f, :, 0].min(), texels[f, :, 1].min()])
        high = np.array([texels[f, :, 0].max(), texels[f, :, 1].max()])
        left, right = max(0.0, np.floor(low[0] - 1)), min(width - 1.0, np.floor(high[0] + 1))
        top, bottom = max(0.0, np.floor(low[1] - 1)), min(height - 1.0, np.floor(high[1] + 1))
        for y in range(int(top), int(bottom) + 1):
            for x in range(int(left), int(right) + 1):
                if face[y, x] >= 0 and nearest[y, x] == np.inf:
                    continue
                away, corner, share = _nearest_edge(texels[f], x + 0.5, y + 0.5)
                if away <= _REACH and away < nearest[y, x]:
                    nearest[y, x] = away
                    face[y, x] = f
                    barycentric[y, x] = 0
                    barycentric[y, x, corner] = 1 - share
                    barycentric[y, x, (corner + 1) % 3] = share


@njit(cache=True, nogil=True, inline="always")
def _nearest_edge(triangle, x, y):
    """Squared distance of a point to a triangle's border, the edge it is nearest to, and how far along that."""
    best, edge, along = np.inf, 0, 0.0
    for corner in range(3):
        ax, ay = triangle[corner, 0], triangle[corner, 1]
        dx, dy = triangle[(corner + 1) % 3, 0] - ax, triangle[(corner + 1) % 3, 1] - ay
        share = ((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-20)
        share = min(max(share, 0.0), 1.0)
        away = (x - ax - share * dx) ** 2 + (y - ay - share * dy) ** 2
        if away < best:
            best, edge, along = away, corner, share
    return best, edge, along


@njit(cache=True, nogil=True)
def _nearest_covered(covered):
    """Row and column, int64 [H, W] each, of the covered texel nearest to every texel; at least one is covered."""
    height, width = covered.shape
    above = np.full((height, width), -_FAR, np.int64)  # row of the nearest covered texel in the same column
    for x in range(width):
        last = -_FAR
        for y in range(height):
            last = y if covered[y, x] else last
            above[y, x] = last
        last = _FAR
        for y in range(height - 1, -1, -1):
            last = y if covered[y, x] else last
            if last - y < y - above[y, x]:
                above[y, x] = last
    row, column = np.empty((height, width), np.int64), np.empty((height, width), np.int64)
    for y in range(height):
        _nearest_in_row(above[y], y, row[y], column[y])
    return row, column


@njit(cache=True, nogil=True)
def _nearest_in_row(above, y, row, column):
    """One row of the above: the lower envelope of the parabolas that the columns' nearest texels give."""
    width = len(above)
    hull, start, count = np.empty(width, np.int64), np.empty(width), 0
    for x in range(width):
        if abs(above[x]) == _FAR:
            continue
        height = (above[x] - y) ** 2 + x * x
        cross = -np.inf
        while count:
            other = hull[count - 1]
            cross = (height - (above[other] - y) ** 2 - other * other) / (2 * (x - other))
            if cross > start[count - 1]:
                break
            count -= 1
            cross = -np.inf
        hull[count], start[count] = x, cross
        count += 1
    place = 0
    for x in range(width):
        while place + 1 < count and start[place + 1] < x:
            place += 1
        column[x] = hull[place]
        row[x] = above[hull[place]]
