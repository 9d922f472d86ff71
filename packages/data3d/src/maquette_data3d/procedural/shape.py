"""Procedural shapes: a pure function of (seed, index), with everything known about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from maquette_data3d.procedural import evaluate
from maquette_data3d.procedural.builder import Program
from maquette_data3d.procedural.catalogue import CLASSES, FIRST_CLASSES, SAMPLERS, classes_of, held_out_pairs
from maquette_data3d.procedural.grammar import Dice, caption, color_of_body
from maquette_data3d.procedural.rig import Skeleton
from maquette_data3d.procedural.wording import Facts, facts_of, paraphrases
from maquette_data3d.surface import extract

if TYPE_CHECKING:
    from maquette.types import Mesh

_GRADIENT_STEP = 5e-4
_POINTS, _WORDS = 1, 2  # streams of random numbers beside the one that designs the shape


@dataclass(frozen=True)
class ProceduralShape:
    """A shape in the unit cube, centred, its longest side 0.9.

    Attributes:
        program: the primitives, see `builder.Program`.
        attributes: the choices that shaped it, with "color" among them.
        facts: what captions may say.
    """

    index: int
    seed: int
    class_name: str
    caption: str
    attributes: dict[str, Any]
    program: Program
    facts: Facts = field(repr=False)

    @property
    def class_id(self) -> int:
        """Place of the class in `CLASSES`."""
        return CLASSES.index(self.class_name)

    @property
    def held_out(self) -> bool:
        """Whether it has one of its class's held-out pairs of attributes, see `catalogue.held_out_pairs`."""
        known = self.attributes
        return any(known[a] == b and known[c] == d for a, b, c, d in held_out_pairs(self.class_name))

    def captions(self, count: int) -> tuple[str, ...]:
        """Up to `count` different true captions, `caption` the first of them; pure in (seed, index).

        Fewer come back where the grammar finds no more; 16 it finds for any shape.
        """
        return paraphrases(self._rng(_WORDS), self.facts, self.caption, count)

    def skeleton(self) -> Skeleton | None:
        """Joints of a creature: names, parents int32 [J] (-1 the root), positions float32 [J, 3]. Else None."""
        return self.program.rig.skeleton() if self.program.rig else None

    def skin(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Joints uint8 [P, 4] and weights float32 [P, 4] (sum 1) of points [P, 3]; None without a skeleton."""
        return self.program.rig.skin(points) if self.program.rig else None

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, self.index, stream])))

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
        surface, normals = self.surface_points(points, self._rng(_POINTS), tsdf)
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


def sample_shape(
    seed: int, index: int, variety: float = 1.0, classes: Sequence[str] = FIRST_CLASSES
) -> ProceduralShape:
    """Shape number `index` of a seed: classes take turns, all else is drawn. Pure: nothing else matters.

    Args:
        variety: in [0, 1], see `grammar.Dice`; colours and the wording of captions always vary.
        classes: that take turns, by their own names or their families'.

    Raises:
        MaquetteError: a class that there is not.
    """
    names = classes_of(tuple(classes))
    class_name = names[index % len(names)]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    color_name, color = color_of_body(rng)
    design = SAMPLERS[class_name](Dice(rng, variety), color)
    facts = facts_of(design, color_name, class_name)
    words = caption(rng, design, color_name, facts.noun)
    attributes = {"color": color_name, **design.attributes}
    return ProceduralShape(index, seed, class_name, words, attributes, design.program, facts)
