"""Points to learn a field from, with their signed distances: near the surface, and all over the volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maquette_data3d.features.feature import check_sizes, stored
from maquette_data3d.features.subject import Subject


@dataclass
class QueriesConfig:
    """Counts and spreads after Hunyuan3D-2.1; sigmas in units of the cube.

    A third of `near` lies around sharp edges.
    """

    near: int = 16_384
    volume: int = 8_192
    sigmas: list[float] = field(default_factory=lambda: [0.005, 0.05])
    sharp_sigmas: list[float] = field(default_factory=lambda: [0.001, 0.003, 0.006, 0.01, 0.02, 0.04])
    box: float = 1.05
    """Side of the box of the volume points over the side of the shape's box."""
    precision: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        check_sizes(self, near=3, volume=1)
        if not self.sigmas or not self.sharp_sigmas or min(*self.sigmas, *self.sharp_sigmas, self.box) <= 0:
            raise ValueError("sigmas, sharp_sigmas and box must be positive, with one sigma at least")


class Queries:
    """`near`, `volume` [M, 3] and `near_sdf`, `volume_sdf` [M], negative inside."""

    def __init__(self, config: QueriesConfig) -> None:
        self.config, self.precision = config, config.precision or "float16"

    def ragged(self) -> tuple[str, ...]:
        """None."""
        return ()

    def facts(self) -> dict[str, Any]:
        """How many there are."""
        return {"near_points": self.config.near, "volume_points": self.config.volume}

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        from maquette_data3d.geometry.sampling import near_points, volume_points

        config, rng = self.config, subject.rng("queries")
        sharp = config.near // 3
        around, _, _ = subject.surface(config.near - sharp)
        edges, _ = subject.sharp(sharp)
        near = np.concatenate(
            [
                near_points(around, config.near - sharp, rng, config.sigmas),
                near_points(edges, sharp, rng, config.sharp_sigmas),
            ]
        )
        near = np.clip(near[rng.permutation(len(near))], -0.5, 0.5)
        volume = volume_points(config.volume, rng, config.box)
        # Distances are those of the points as they are stored, not as they were drawn.
        near, volume = stored(near, self.precision), stored(volume, self.precision)
        return {
            "near": near,
            "near_sdf": stored(subject.distance(near.astype(np.float64)), self.precision),
            "volume": volume,
            "volume_sdf": stored(subject.distance(volume.astype(np.float64)), self.precision),
        }
