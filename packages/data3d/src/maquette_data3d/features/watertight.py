"""A closed surface of every shape, whatever its own is like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette_data3d.features.feature import check_cells
from maquette_data3d.features.subject import Subject


@dataclass
class WatertightConfig:
    """Cells along the cube; the build's where not given."""

    resolution: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        check_cells(self.resolution, 4, 512)


class Watertight:
    """`solid_vertices` float32 [*, 3] and `solid_faces` int32 [*, 3]: closed, facing outwards, thin parts kept, inner
    shells gone."""

    def __init__(self, config: WatertightConfig) -> None:
        self.resolution = config.resolution or 64

    def ragged(self) -> tuple[str, ...]:
        """Both."""
        return ("solid_vertices", "solid_faces")

    def facts(self) -> dict[str, Any]:
        """Cells along the cube."""
        return {"solid_resolution": self.resolution}

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        vertices, faces = subject.watertight(self.resolution)
        return {"solid_vertices": vertices.astype(np.float32), "solid_faces": faces.astype(np.int32)}
