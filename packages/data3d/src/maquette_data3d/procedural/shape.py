"""Procedural shapes: a pure function of (seed, index), with everything known about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maquette_data3d.procedural import evaluate, furniture, objects
from maquette_data3d.procedural.builder import Program, Vector
from maquette_data3d.procedural.grammar import Design, Dice, caption, color_of_body
from maquette_data3d.surface import extract

if TYPE_CHECKING:
    from maquette.types import Mesh

_SAMPLERS: dict[str, Callable[[Dice, Vector], Design]] = {
    "chair": furniture.chair,
    "table": furniture.table,
    "lamp": furniture.lamp,
    "mug": objects.mug,
    "car": objects.car,
    "creature": objects.creature,
    "pebble": objects.pebble,
    "gear": objects.gear,
}
CLASSES = tuple(_SAMPLERS)
_GRADIENT_STEP = 5e-4


@dataclass(frozen=True)
class ProceduralShape:
    """A shape in the unit cube, centred, its longest side 0.9.

    Attributes:
        program: the primitives, see `builder.Program`.
        attributes: the choices that shaped it, with "color" among them.
    """

    index: int
    seed: int
    class_name: str
    caption: str
    attributes: dict[str, Any]
    program: Program

    @property
    def class_id(self) -> int:
        """Place of the class in `CLASSES`."""
        return CLASSES.index(self.class_name)

    def _evaluate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = np.ascontiguousarray(points, np.float64)
        return evaluate.distances(self.program.rows, self.program.blend, points)

    def sdf(self, points: np.ndarray) -> np.ndarray:
        """Signed distance float32 [P] at points [P, 3], negative inside, in the unit cube's units."""
        return self._evaluate(points)[0]

    def part_of(self, points: np.ndarray) -> np.ndarray:
        """Number int64 [P] of the part nearest to points [P, 3]; `program.part_names` names them."""
        return self._evaluate(points)[1]

    def color_of(self, points: np.ndarray) -> np.ndarray:
        """Albedo float32 [P, 3] (sRGB in [0, 1]) of the part nearest to points [P, 3]."""
        return self.program.part_colors[self.part_of(points)]

    def tsdf(self, resolution: int = 64, truncation: float = 0.05) -> np.ndarray:
        """clamp(sdf / truncation, -1, 1) float32 [R, R, R], [x, y, z], cell-centred; R a multiple of 4."""
        return evaluate.dense(self.program.rows, self.program.blend, resolution, truncation)[0]

    def color_grid(self, resolution: int = 32) -> np.ndarray:
        """Albedo uint8 [3, R, R, R] of the nearest part, [x, y, z], cell-centred; R a multiple of 4."""
        _, labels = evaluate.dense(self.program.rows, self.program.blend, resolution, 0.0)
        palette = np.round(self.program.part_colors.T * 255).astype(np.uint8)
        return palette[:, labels]

    def surface_points(
        self, count: int, rng: np.random.Generator, tsdf: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Uniform points on the surface and their normals, both float32 [count, 3].

        Drawn by area on the extracted surface of `tsdf` (made at 64 when not given), then moved onto the
        exact one.
        """
        tsdf = self.tsdf() if tsdf is None else tsdf
        vertices, faces = extract(tsdf)
        rounds = 1 if len(tsdf) >= 64 else 2  # coarse triangles start farther off
        points = points_on_triangles(vertices, faces, count, rng).astype(np.float64)
        normals = evaluate.settle(self.program.rows, self.program.blend, points, _GRADIENT_STEP, rounds)
        return points.astype(np.float32), normals

    def fields(self, resolution: int = 64, truncation: float = 0.05, points: int = 8192) -> dict[str, np.ndarray]:
        """Everything a shard stores of a shape, a pure function of the shape and the arguments.

        Returns:
            tsdf float16 [1, R, R, R], color uint8 [3, R/2, R/2, R/2], surface float16 [N, 3], normals float16
            [N, 3], class_id int64 []. R is a multiple of 8. The points are in random order.
        """
        tsdf = self.tsdf(resolution, truncation)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, self.index, 1])))
        surface, normals = self.surface_points(points, rng, tsdf)
        return {
            "tsdf": tsdf[None].astype(np.float16),
            "color": self.color_grid(resolution // 2),
            "surface": surface.astype(np.float16),
            "normals": normals.astype(np.float16),
            "class_id": np.int64(self.class_id),
        }

    def mesh(self, resolution: int = 96) -> Mesh:
        """Closed mesh with vertex colours, facing outwards; `resolution` cells along the cube."""
        from maquette.types import Mesh

        resolution += -resolution % evaluate.BLOCK
        vertices, faces = extract(self.tsdf(resolution, 4.0 / resolution))
        settled = vertices.astype(np.float64)
        evaluate.settle(self.program.rows, self.program.blend, settled, _GRADIENT_STEP, 1)
        # A vertex may slide along its own grid edge's neighbourhood only: sharp corners would fold otherwise.
        limit = 0.45 / resolution
        moved = vertices + np.clip(settled - vertices, -limit, limit).astype(np.float32)
        albedo = np.round(self.color_of(moved) * 255).astype(np.uint8)
        opaque = np.full((len(albedo), 1), 255, np.uint8)
        return Mesh(moved.astype(np.float32), faces, np.concatenate([albedo, opaque], axis=1))


def points_on_triangles(vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points float32 [count, 3], uniform by area over triangles (vertices [V, 3], faces [F, 3])."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    total = np.cumsum(areas)
    chosen = np.minimum(np.searchsorted(total, rng.random(count) * total[-1], side="right"), len(faces) - 1)
    u, v = rng.random((count, 1)), rng.random((count, 1))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    return (a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]).astype(np.float32)


def sample_shape(seed: int, index: int, variety: float = 1.0) -> ProceduralShape:
    """Shape number `index` of a seed: classes take turns, all else is drawn. Pure: nothing else matters.

    Args:
        variety: in [0, 1], see `grammar.Dice`; colours and the wording of captions always vary.
    """
    class_name = CLASSES[index % len(CLASSES)]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    color_name, color = color_of_body(rng)
    design = _SAMPLERS[class_name](Dice(rng, variety), color)
    words = caption(rng, design, color_name, class_name)
    attributes = {"color": color_name, **design.attributes}
    return ProceduralShape(index, seed, class_name, words, attributes, design.program)
