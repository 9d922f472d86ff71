"""Points of surfaces with their paint, and the cells of a coarse grid that they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette.errors import MaquetteError

CHANNELS = ("red", "green", "blue", "metallic", "roughness", "alpha")
"""Of paint: base colour in sRGB, the material, and opacity; each in [0,1], and moved to -1..1 for networks."""
FIELDS = ("surface", "normals", "surface_color", "surface_material")
"""What the dataset `shards` must give."""
FLIP = (-1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class PaintedPoints:
    """Points of B surfaces: places in the unit cube, normals, float32 [B,P,3] each, and paint [B,P,6] in -1..1."""

    places: Tensor
    normals: Tensor
    paint: Tensor

    @staticmethod
    def of_batch(batch: Mapping[str, Any]) -> PaintedPoints:
        """The points of a batch of shards: `surface`, `normals`, `surface_color` [B,P,3] in [0,1], `surface_material`
        uint8 [B,P,2]; all opaque.

        Raises:
            MaquetteError: a field is missing.
        """
        missing = [name for name in FIELDS if name not in batch]
        if missing:
            raise MaquetteError(
                f"texturing needs the fields {', '.join(missing)} of a batch; build shards with "
                "{name: surface, colors: true, materials: true}" + f" and set data.fields to {list(FIELDS)}"
            )
        color = batch["surface_color"].float()
        paint = torch.cat([color, batch["surface_material"].float() / 255, torch.ones_like(color[..., :1])], dim=-1)
        return PaintedPoints(batch["surface"].float(), batch["normals"].float(), paint * 2 - 1)

    def window(self, start: int, stop: int | None) -> PaintedPoints:
        """Some of each surface's points; they are in random order."""
        return PaintedPoints(*(part[:, start:stop] for part in (self.places, self.normals, self.paint)))

    def mirrored(self) -> PaintedPoints:
        """Their mirror images, left to right, along x."""
        sign = self.places.new_tensor(FLIP)
        return PaintedPoints(self.places * sign, self.normals * sign, self.paint)


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a grid that points of B surfaces lie in.

    Attributes:
        coords: int32 [N,4], row of the batch and cell (x, y, z), rising.
        owner: int64 [B*P], the cell of each point.
        rows: B.
    """

    coords: Tensor
    owner: Tensor
    rows: int

    @staticmethod
    def of(places: Tensor, resolution: int) -> Cells:
        """The cells of places [B,P,3] in the unit cube; those outside count with the border."""
        cells = ((places + 0.5) * resolution).floor().long().clamp(0, resolution - 1)
        row = torch.arange(len(places), device=places.device)[:, None]
        x, y, z = cells.unbind(-1)
        keys, owner = (((row * resolution + x) * resolution + y) * resolution + z).flatten().unique(return_inverse=True)
        parts = [keys // resolution**3, *(keys // resolution**power % resolution for power in (2, 1, 0))]
        return Cells(torch.stack(parts, dim=-1).int(), owner, len(places))

    @property
    def counts(self) -> Tensor:
        """How many cells each surface has, int64 [B]."""
        return self.coords[:, 0].long().bincount(minlength=self.rows)

    def means(self, values: Tensor) -> Tensor:
        """Means float32 [N,C] over each cell's points of values [B*P,C]; half precision would not add up hundreds."""
        values = values.float()
        sums = values.new_zeros(len(self.coords), values.shape[1]).index_add(0, self.owner, values)
        return sums / self.owner.bincount(minlength=len(self.coords))[:, None]
