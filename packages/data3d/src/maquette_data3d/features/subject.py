"""The thing that features describe, whatever it is: what they may ask of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from maquette_data3d.rendering.surfaces import Surface


@dataclass(frozen=True)
class Rig:
    """A skeleton in the unit cube.

    Attributes:
        names: of the joints; parents: int16 [J], -1 at a root; positions: float32 [J, 3].
    """

    names: tuple[str, ...]
    parents: np.ndarray
    positions: np.ndarray


class Subject(Protocol):
    """What a feature may ask; everything is in the unit cube and a pure function of source, seed and settings.

    Attributes:
        resolution: cells along the unit cube that the build looks at shapes with.
    """

    resolution: int

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers of one purpose, whatever else was drawn."""

    def tsdf(self, resolution: int, truncation: float) -> np.ndarray:
        """clamp(sdf / truncation, -1, 1) float32 [R, R, R]."""

    def color_grid(self, resolution: int) -> np.ndarray:
        """sRGB uint8 [3, R, R, R] of the nearest surface."""

    def surface(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Uniform points float32 [N, 3], normals float32 [N, 3], colours uint8 [N, 3]; the same at each call."""

    def sharp(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points on sharp edges and normals, both float32 [N, 3]; uniform ones where no edge can be seen."""

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance float64 [P]."""

    def triangles(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices float64 [V, 3] and faces int32 [F, 3] of the surface as it is, open where it is open."""

    def watertight(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Vertices [V, 3] and faces [F, 3] of a closed surface, R cells along the cube."""

    def drawable(self) -> Surface:
        """The surface with its colours and materials, for pictures."""

    def parts(self, points: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Part int64 [P] that each point on the surface belongs to, and the parts' names."""

    def materials(self, points: np.ndarray) -> np.ndarray:
        """Metallic and roughness float32 [P, 2], in [0, 1], of points on the surface."""

    def rig(self) -> Rig | None:
        """The skeleton, where it has one."""

    def skin(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joints uint8 [P, 4] and weights float32 [P, 4] (sum 1) of points on the surface of what has a rig."""


def generator(purpose: str, *key: int) -> np.random.Generator:
    """Random numbers of one purpose, by a key."""
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([*key, word])))
