"""A procedural shape as the subject of features: its distances, parts and joints are known exactly."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from maquette_data3d.features.skinning import no_skin
from maquette_data3d.features.subject import Rig, generator

if TYPE_CHECKING:
    from maquette_data3d.procedural import ProceduralShape
    from maquette_data3d.rendering.surfaces import Surface


class ShapeSubject:
    """A procedural shape, whose distances, parts and joints are known exactly."""

    def __init__(self, shape: ProceduralShape, resolution: int, truncation: float) -> None:
        self.shape, self.resolution, self._own = shape, resolution, (resolution, truncation)
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._grids: dict[tuple[int, float], np.ndarray] = {}

    def rng(self, purpose: str) -> np.random.Generator:
        """See `Subject`."""
        return generator(purpose, self.shape.seed, self.shape.index)

    def tsdf(self, resolution: int, truncation: float) -> np.ndarray:
        """See `Subject`."""
        key = (resolution, truncation)
        if key not in self._grids:
            self._grids[key] = self.shape.tsdf(*key)
        return self._grids[key]

    def color_grid(self, resolution: int) -> np.ndarray:
        """See `Subject`."""
        return self.shape.color_grid(resolution)

    def surface(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Subject`."""
        if count not in self._drawn:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.shape.seed, self.shape.index, 1])))
            self._drawn[count] = self.shape.surface_points(count, rng, self.tsdf(*self._own))
        points, normals = self._drawn[count]
        return points, normals, np.round(self.shape.color_of(points) * 255).astype(np.uint8)

    def sharp(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Subject`; edges are those of the extracted surface, and lie within a cell of the exact ones."""
        from maquette_data3d.geometry.sampling import sharp_samples

        drawn = sharp_samples(*self.triangles(), count, self.rng("sharp"))
        return drawn.points, drawn.normals

    def distance(self, points: np.ndarray) -> np.ndarray:
        """See `Subject`."""
        return self.shape.sdf(points).astype(np.float64)

    @cached_property
    def _mesh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mesh = self.shape.mesh(max(96, self._own[0]))
        colors = mesh.colors if mesh.colors is not None else np.full((len(mesh.vertices), 4), 255, np.uint8)
        return mesh.vertices, mesh.faces, colors

    def triangles(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Subject`."""
        vertices, faces, _ = self._mesh
        return vertices.astype(np.float64), faces

    def watertight(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Subject`."""
        mesh = self.shape.mesh(resolution)
        return mesh.vertices, mesh.faces

    def drawable(self) -> Surface:
        """See `Subject`."""
        from maquette.types import Mesh
        from maquette_data3d.rendering.surfaces import Surface

        return Surface.of_mesh(Mesh(*self._mesh))

    def parts(self, points: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """See `Subject`."""
        return self.shape.part_of(points), self.shape.program.part_names

    def materials(self, points: np.ndarray) -> np.ndarray:
        """See `Subject`."""
        factors = [(material.metallic, material.roughness) for material in self.shape.program.materials]
        return np.array(factors, np.float32)[self.shape.part_of(points)]

    def rig(self) -> Rig | None:
        """See `Subject`."""
        skeleton = self.shape.skeleton()
        if skeleton is None:
            return None
        names, parents, positions = skeleton
        return Rig(tuple(names), parents.astype(np.int16), positions.astype(np.float32))

    def skin(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Subject`."""
        skin = self.shape.skin(points)
        return no_skin(len(points)) if skin is None else skin
