"""Dense grids: the truncated signed distance, and the colour of the nearest surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.features.feature import check_cells, check_sizes, stored
from maquette_data3d.features.subject import Subject


@dataclass
class GridConfig:
    """Cells along the cube, and the distance at which the field is cut off; the build's where not given."""

    resolution: int | None = None
    truncation: float | None = None
    precision: str | None = None
    color: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        check_sizes(self)
        check_cells(self.resolution, 8)
        if self.truncation is not None and not 0 < self.truncation <= 1:
            raise ValueError(f"truncation {self.truncation} is not in (0, 1]")


class Grid:
    """`tsdf` [1, R, R, R], negative inside, and `color` uint8 [3, R/2, R/2, R/2] (sRGB)."""

    def __init__(self, config: GridConfig) -> None:
        self.resolution, self.truncation = config.resolution or 64, config.truncation or 0.05
        self.precision, self.color = config.precision or "float16", config.color

    def ragged(self) -> tuple[str, ...]:
        """None."""
        return ()

    def facts(self) -> dict[str, Any]:
        """How the grids lie in the cube."""
        facts = {"resolution": self.resolution, "truncation": self.truncation}
        return {**facts, "color_resolution": self.resolution // 2} if self.color else facts

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        tsdf = subject.tsdf(self.resolution, self.truncation)
        if not (tsdf < 0).any():
            raise MaquetteError(f"vanishes: nothing of it is left at resolution {self.resolution}")
        arrays = {"tsdf": stored(tsdf[None], self.precision)}
        if self.color:
            arrays["color"] = subject.color_grid(self.resolution // 2)
        return arrays
