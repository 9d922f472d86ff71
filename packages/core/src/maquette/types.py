"""What travels between plugins: meshes, assets, requests. NumPy only, so that exporters and servers need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError

TRIANGLE = 3
RGBA = 4


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh in the unit cube's space: right-handed, y up, +z to the front.

    Args:
        vertices: float32 [V, 3].
        faces: int32 [F, 3], counter-clockwise seen from outside.
        colors: uint8 [V, 4] RGBA in sRGB, or None.

    Raises:
        MaquetteError: wrong shapes, non-finite vertices, or faces that point outside the vertices.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", np.asarray(self.vertices, np.float32))
        object.__setattr__(self, "faces", np.asarray(self.faces, np.int32))
        if self.vertices.ndim != 2 or self.vertices.shape[1] != TRIANGLE:
            raise MaquetteError(f"mesh vertices must be [V, 3], got {list(self.vertices.shape)}")
        if self.faces.ndim != 2 or self.faces.shape[1] != TRIANGLE:
            raise MaquetteError(f"mesh faces must be triangles [F, 3], got {list(self.faces.shape)}")
        if not np.isfinite(self.vertices).all():
            raise MaquetteError("mesh has vertices that are NaN or infinite")
        if self.faces.size and (self.faces.min() < 0 or self.faces.max() >= len(self.vertices)):
            raise MaquetteError(f"mesh has faces that point outside its {len(self.vertices)} vertices")
        if self.colors is not None:
            object.__setattr__(self, "colors", np.asarray(self.colors, np.uint8))
            if self.colors.shape != (len(self.vertices), RGBA):
                raise MaquetteError(f"mesh colors must be [{len(self.vertices)}, 4], got {list(self.colors.shape)}")


@dataclass(frozen=True, eq=False)
class Asset:
    """What a pipeline returns and an exporter writes: a mesh and how it came to be (prompt, seed, run, ...)."""

    mesh: Mesh
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Request:
    """What a user asks a pipeline for. ``None`` means the pipeline's own default.

    The same request gives the same asset, bit for bit, on one machine.

    Args:
        images: pictures to follow, uint8 [H, W, 3] or [H, W, 4] in sRGB.
        mesh: a mesh to follow or to change.
        options: what only some pipelines know, by name.
    """

    prompt: str = ""
    seed: int = 0
    class_name: str | None = None
    guidance: float | None = None
    steps: int | None = None
    images: tuple[NDArray[np.uint8], ...] = ()
    mesh: Mesh | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
