"""What the Triton kernels of this family share: faces arranged in tiles with boxes, points in an order in which
neighbours are near each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from maquette_kernels.curves.functions import morton_encode

POINTS, FACES = 64, 32
"""Of a tile. Small tiles of faces have small boxes, and most need not be asked."""
ROWS = 9
"""Of a face: its first corner and its two edges from there."""
BITS = 10
"""Of each coordinate of the curve's cells."""


@dataclass(frozen=True)
class FaceTiles:
    """Faces along a curve, in tiles of FACES.

    Attributes:
        rows: float32 [9, N], N a multiple of FACES; NaN for faces without three finite corners, and behind the last.
        boxes: float32 [6, N / FACES], low and high of each tile's faces; from inf to -inf where there are none.
        numbers: int32 [N], the faces' numbers in the mesh.
    """

    rows: Tensor
    boxes: Tensor
    numbers: Tensor

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.boxes.shape[1]


def tiles_of(vertices: Tensor, faces: Tensor) -> FaceTiles:
    """The faces of a mesh in tiles."""
    corners = vertices.float()[faces.long()]
    corners = torch.where(corners.isfinite().flatten(1).all(1)[:, None, None], corners, float("nan"))
    order = along_curve(corners.sum(1) / 3)
    spare = triton.cdiv(len(faces), FACES) * FACES - len(faces)
    corners = torch.cat([corners[order], corners.new_full((spare, 3, 3), float("nan"))])
    wide = corners.double()  # edges are rounded once
    edges = (wide[:, 1:] - wide[:, :1]).float()
    rows = torch.cat([corners[:, :1], edges], 1).flatten(1).t().contiguous()
    tiles = corners.view(-1, FACES * 3, 3)
    low, high = tiles.nan_to_num(nan=float("inf")).amin(1), tiles.nan_to_num(nan=float("-inf")).amax(1)
    numbers = torch.cat([order, order.new_zeros(spare)]).int()
    return FaceTiles(rows, torch.cat([low, high], 1).t().contiguous(), numbers)


def along_curve(places: Tensor) -> Tensor:
    """Order int64 [N] of places [N, 3] along a Morton curve through their box; what is not finite comes last."""
    sound = places.isfinite().all(1)[:, None]
    if not len(places):
        return torch.zeros(0, dtype=torch.int64, device=places.device)
    low = torch.where(sound, places, float("inf")).amin(0)
    side = (torch.where(sound, places, float("-inf")).amax(0) - low).max().clamp(min=1e-30)
    cells = torch.where(sound, (places - low) / side * (2**BITS - 1), 2**BITS - 1).nan_to_num().int()
    codes = morton_encode(cells, BITS)
    return torch.sort(torch.where(sound[:, 0], codes, 2 ** (3 * BITS)), stable=True)[1]
