"""Sparse structures of the surface as it is, open or closed: voxels, and the flexible dual grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette_data3d.features.feature import check_cells, check_sizes, stored
from maquette_data3d.features.subject import Subject


@dataclass
class VoxelsConfig:
    """Cells along the cube; the build's where not given."""

    resolution: int | None = None
    color: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        check_cells(self.resolution, 1)


class Voxels:
    """`voxels` int16 [*, 3]: every cell that the surface passes, sorted; `voxel_color` uint8 [*, 3] (sRGB)."""

    def __init__(self, config: VoxelsConfig) -> None:
        self.resolution, self.color = config.resolution or 64, config.color

    def ragged(self) -> tuple[str, ...]:
        """Both."""
        return ("voxels", "voxel_color")

    def facts(self) -> dict[str, Any]:
        """Cells along the cube."""
        return {"voxel_resolution": self.resolution}

    def tokens(self, arrays: Mapping[str, np.ndarray]) -> int:
        """A voxel is a token."""
        return len(arrays["voxels"])

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        from scipy.spatial import cKDTree

        from maquette_data3d.geometry.voxels import sparse_voxels

        voxels = sparse_voxels(*subject.triangles(), self.resolution)
        arrays: dict[str, np.ndarray] = {"voxels": voxels.astype(np.int16)}
        if self.color:
            points, _, colors = subject.surface(16_384)
            centres = (voxels + 0.5) / self.resolution - 0.5
            _, nearest = cKDTree(points, balanced_tree=False, compact_nodes=False).query(centres)
            arrays["voxel_color"] = np.ascontiguousarray(colors[nearest])
        return arrays


@dataclass
class DualGridConfig:
    """Cells along the cube; the build's where not given."""

    resolution: int | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        check_sizes(self)
        check_cells(self.resolution, 1)


class DualGrid:
    """The flexible dual grid: `dual_voxels` int16 [*, 3], `dual_points` [*, 3], `dual_edges` uint8 [*]."""

    def __init__(self, config: DualGridConfig) -> None:
        self.resolution, self.precision = config.resolution or 64, config.precision or "float16"

    def ragged(self) -> tuple[str, ...]:
        """All of them."""
        return ("dual_voxels", "dual_points", "dual_edges")

    def facts(self) -> dict[str, Any]:
        """Cells along the cube."""
        return {"dual_resolution": self.resolution}

    def tokens(self, arrays: Mapping[str, np.ndarray]) -> int:
        """A voxel is a token."""
        return len(arrays["dual_voxels"])

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        from maquette_data3d.geometry.dual_grid import dual_grid

        grid = dual_grid(*subject.triangles(), self.resolution)
        bits = np.packbits(np.concatenate([grid.edges, grid.signs], 1), axis=1, bitorder="little")
        return {
            "dual_voxels": grid.voxels.astype(np.int16),
            "dual_points": stored(grid.points, self.precision),
            "dual_edges": np.ascontiguousarray(bits[:, 0]),
        }
