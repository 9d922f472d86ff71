"""Signed distances, dense grids and surface samples of a mesh as it is: closed, open, or both at once.

Parts with an inside get their exact distance, signed by the winding number (negative where it is over one
half: a hard sign, for a soft one bends every distance near a hole). What has no inside becomes a shell of
`SHELL` voxels to either side, so that nothing is lost. The minimum over all of them is the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maquette_data3d.geometry.band import cell_centres, shell_band, solid_band
from maquette_data3d.geometry.bodies import Bodies, find
from maquette_data3d.geometry.repair import CleanMesh, clean
from maquette_data3d.geometry.sampling import SurfaceSamples, draw, sharp_samples
from maquette_data3d.geometry.signs import is_closed
from maquette_kernels.distance.tree import TriangleTree

__all__ = ["MeshField", "cell_centres", "field_of", "mesh_field"]

SHELL = 0.75
_TOUCH = 1e-4
_TRIES = 4


@dataclass(frozen=True)
class MeshField:
    """A signed distance field over the unit cube.

    Attributes:
        bodies: solids and sheets.
        half_shell: half thickness of the sheets, in the unit cube's units.
    """

    bodies: Bodies
    half_shell: float

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance float64 [P] at points [P, 3]: exact outside solids and near every surface."""
        points = np.ascontiguousarray(points, np.float64)
        best = np.full(len(points), np.inf)
        for tree in self._solids:
            asked = tree.at_least(points) < best  # the others are nearer to something else
            best[asked] = np.minimum(best[asked], tree.signed(points[asked]))
        if self._shell:
            asked = self._shell.at_least(points) - self.half_shell < best
            shell = self._shell.closest(points[asked])[0] - self.half_shell
            best[asked] = np.minimum(best[asked], shell)
        return best

    def tsdf(self, resolution: int, truncation: float) -> np.ndarray:
        """clamp(sdf / truncation, -1, 1) float32 [R, R, R], [x, y, z], cell-centred; R a multiple of 4."""
        grid = np.ones((resolution,) * 3, np.float32)
        for tree, group in zip(self._solids, self.bodies.solids, strict=True):
            one = solid_band(tree, is_closed(self.bodies.faces[group]), resolution, truncation)
            np.minimum(grid, one, out=grid)
        if self._shell:
            np.minimum(grid, shell_band(self._shell, resolution, truncation, self.half_shell), out=grid)
        return grid

    @cached_property
    def _solids(self) -> list[TriangleTree]:
        return [TriangleTree(self.bodies.vertices, self.bodies.faces[group]) for group in self.bodies.solids]

    @cached_property
    def _shell(self) -> TriangleTree | None:
        faces = self.bodies.faces[np.concatenate([self.bodies.sheet, self.bodies.thin])]
        return TriangleTree(self.bodies.vertices, faces) if len(faces) else None

    def surface(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Uniform points on the field's surface.

        Points inside another solid are not on it and are drawn again; those of sheets are moved to either
        side by the shell's half thickness.

        Returns:
            points float32 [count, 3], normals float32 [count, 3], colors uint8 [count, 3] (sRGB).
        """
        drawn = self.samples(count, rng)
        return drawn.points, drawn.normals, self.color(drawn)

    def color(self, samples: SurfaceSamples) -> np.ndarray:
        """Colours uint8 [N, 3] (sRGB) of samples of this field, blended between the corners of their faces."""
        corners = self.bodies.corner_colors[samples.face].astype(np.float64)
        return np.round(np.einsum("nc,ncd->nd", samples.weights, corners)).astype(np.uint8)

    def samples(self, count: int, rng: np.random.Generator) -> SurfaceSamples:
        """The points that `surface` gives of the same generator, with their faces (of `bodies`) and weights."""
        found: list[tuple[np.ndarray, ...]] = []
        for _ in range(_TRIES):
            *drawn, group = self._draw(count, rng)
            outside = self._is_outer(drawn[0] + drawn[1] * _TOUCH, group)
            found.append(tuple(part[outside] for part in drawn))
            if sum(len(part[0]) for part in found) >= count:
                break
        else:
            found.append(tuple(drawn))
        points, normals, face, weights = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
        return SurfaceSamples(
            points.astype(np.float32), normals.astype(np.float32), face.astype(np.int32), weights.astype(np.float32)
        )

    def sharp(self, count: int, rng: np.random.Generator) -> SurfaceSamples:
        """Points on sharp edges (see `sharp_samples`) that no other part hides, with their faces of `bodies`.

        Where too few can be seen, uniform points of the surface stand in.
        """
        found, left = [], count
        for _ in range(_TRIES):
            drawn = sharp_samples(self.bodies.vertices, self.bodies.faces, 2 * left, rng)
            seen = self._is_outer(drawn.points + drawn.normals * _TOUCH, self._group[drawn.face], shell=False)
            found.append(drawn.chosen(np.flatnonzero(seen)[:left]))
            left -= len(found[-1].points)
            if not left:
                return SurfaceSamples.joined(found)
        return SurfaceSamples.joined([*found, self.samples(left, rng)])

    @cached_property
    def _group(self) -> np.ndarray:
        """Which solid each face belongs to, -1 for sheets."""
        group = np.full(len(self.bodies.faces), -1)
        for number, faces in enumerate(self.bodies.solids):
            group[faces] = number
        return group

    def _draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Points, normals, faces, weights, and the group that each is drawn from (-1: sheets)."""
        bodies, group = self.bodies, self._group
        thin = np.zeros(len(bodies.faces), bool)
        thin[bodies.thin] = True
        corners = bodies.vertices[bodies.faces]
        face, weights, normals = draw(corners, count, rng)
        points = np.einsum("nc,ncd->nd", weights, corners[face])
        # A sheet has two sides, and each point takes one; a thin solid's surface moves outwards.
        sheet = group[face] < 0
        normals[sheet & (rng.random(count) < 0.5)] *= -1.0
        points[sheet | thin[face]] += normals[sheet | thin[face]] * self.half_shell
        return points, normals, face, weights, group[face]

    def _is_outer(self, points: np.ndarray, group: np.ndarray, shell: bool = True) -> np.ndarray:
        """Points bool [P] that no other solid hides, and no shell."""
        outer = np.ones(len(points), bool)
        for number, tree in enumerate(self._solids):
            asked = outer & (group != number)
            outer[asked] = ~tree.inside(points[asked])
        if self._shell and shell:
            outer[outer] = self._shell.closest(points[outer])[0] >= self.half_shell
        return outer


def mesh_field(vertices: np.ndarray, faces: np.ndarray, corner_colors: np.ndarray, resolution: int) -> MeshField:
    """The field of a mesh in any position and units: it is normalised and repaired first.

    Args:
        vertices: float [V, 3]; faces: int [F, 3]; corner_colors: uint8 [F, 3, 3].
        resolution: cells along the unit cube, which sets how thick a sheet becomes.
    """
    return field_of(clean(np.asarray(vertices, np.float64), np.asarray(faces, np.int64), corner_colors), resolution)


def field_of(mesh: CleanMesh, resolution: int) -> MeshField:
    """The field of a cleaned mesh."""
    return MeshField(find(mesh, 1.0 / resolution), SHELL / resolution)
