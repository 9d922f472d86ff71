"""Points on the surface: uniform ones, and those on sharp edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette_data3d.features.feature import check_sizes, stored
from maquette_data3d.features.subject import Subject


@dataclass
class SurfaceConfig:
    """How many points, and what is stored of them beside position and normal."""

    points: int | None = None
    precision: str | None = None
    colors: bool = False
    materials: bool = False
    parts: bool = False
    skin: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        check_sizes(self, points=1)


class Surface:
    """`surface` and `normals` [N, 3] in random order; on request uint8 `surface_color` [N, 3] (sRGB),
    `surface_material` [N, 2] (metallic, roughness, in 1 / 255), `surface_part` [N], `surface_joints` [N, 4], and
    `surface_weights` [N, 4]."""

    def __init__(self, config: SurfaceConfig) -> None:
        self.config = config
        self.points, self.precision = config.points or 8192, config.precision or "float16"

    def ragged(self) -> tuple[str, ...]:
        """None."""
        return ()

    def facts(self) -> dict[str, Any]:
        """How many there are."""
        return {"points": self.points}

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        points, normals, colors = subject.surface(self.points)
        arrays = {"surface": stored(points, self.precision), "normals": stored(normals, self.precision)}
        if self.config.colors:
            arrays["surface_color"] = np.ascontiguousarray(colors)
        if self.config.materials:
            arrays["surface_material"] = np.round(subject.materials(points) * 255).astype(np.uint8)
        if self.config.parts:
            labels, _ = subject.parts(points)
            arrays["surface_part"] = np.minimum(labels, 255).astype(np.uint8)
        if self.config.skin:
            joints, weights = subject.skin(points)
            arrays["surface_joints"], arrays["surface_weights"] = joints, stored(weights, self.precision)
        return arrays


@dataclass
class SharpConfig:
    """How many points on sharp edges."""

    points: int | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        check_sizes(self, points=1)


class Sharp:
    """`sharp` and `sharp_normals` [N, 3]: points on edges that bend; uniform ones where nothing does."""

    def __init__(self, config: SharpConfig) -> None:
        self.points, self.precision = config.points or 8192, config.precision or "float16"

    def ragged(self) -> tuple[str, ...]:
        """None."""
        return ()

    def facts(self) -> dict[str, Any]:
        """How many there are."""
        return {"sharp_points": self.points}

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        points, normals = subject.sharp(self.points)
        return {"sharp": stored(points, self.precision), "sharp_normals": stored(normals, self.precision)}
