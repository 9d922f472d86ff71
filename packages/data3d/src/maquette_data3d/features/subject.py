"""The thing that features describe: a mesh from a file, or a procedural shape, with what they share made once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from maquette_data3d.features.skinning import barycentric, blended, no_skin

if TYPE_CHECKING:
    from maquette_data3d.geometry.fields import MeshField
    from maquette_data3d.geometry.repair import CleanMesh
    from maquette_data3d.geometry.tree import TriangleTree
    from maquette_data3d.ingest.scene import Scene
    from maquette_data3d.procedural import ProceduralShape
    from maquette_data3d.rendering.surfaces import Surface

_COLOR_SAMPLES = 16_384
_NEAR = 2  # cells around the surface whose colour is found exactly


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


class MeshSubject:
    """A mesh from a file.

    Args:
        scene: as the file has it.
        mesh: the same, cleaned and in the unit cube.
        seed: of this file and this build.
        resolution: cells along the unit cube, which sets how thick a sheet becomes.
    """

    def __init__(self, scene: Scene, mesh: CleanMesh, seed: int, resolution: int) -> None:
        self.scene, self.cleaned, self.seed, self.resolution = scene, mesh, seed, resolution
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    @cached_property
    def field(self) -> MeshField:
        """Signed distances, open and closed parts together."""
        from maquette_data3d.geometry.fields import field_of

        return field_of(self.cleaned, self.resolution)

    @cached_property
    def mesh(self) -> CleanMesh:
        """The cleaned mesh with its closed parts facing outwards."""
        bodies = self.field.bodies
        return replace(
            self.cleaned,
            faces=bodies.faces,
            corner_colors=bodies.corner_colors,
            source_face=bodies.source_face,
            turned=bodies.turned,
        )

    @cached_property
    def _tree(self) -> TriangleTree:
        from maquette_data3d.geometry.tree import TriangleTree

        return TriangleTree(self.mesh.vertices, self.mesh.faces)

    def rng(self, purpose: str) -> np.random.Generator:
        """See `Subject`."""
        word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big")
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, word])))

    def tsdf(self, resolution: int, truncation: float) -> np.ndarray:
        """See `Subject`."""
        return self.field.tsdf(resolution, truncation)

    def color_grid(self, resolution: int) -> np.ndarray:
        """See `Subject`."""
        from scipy import ndimage
        from scipy.spatial import cKDTree

        from maquette_data3d.geometry.fields import cell_centres

        points, _, colors = self.surface(_COLOR_SAMPLES)
        near = np.zeros((resolution,) * 3, bool)
        near[tuple(np.clip(((points + 0.5) * resolution).astype(np.int64), 0, resolution - 1).T)] = True
        near = ndimage.binary_dilation(near, iterations=_NEAR)
        centres = cell_centres(resolution)[near.reshape(-1)]
        _, nearest = cKDTree(points, balanced_tree=False, compact_nodes=False).query(centres)
        grid = np.zeros((resolution,) * 3, np.int64)
        grid[near] = nearest
        # Farther off, the colour is that of the nearest cell which has one.
        places = ndimage.distance_transform_edt(~near, return_distances=False, return_indices=True)
        return np.ascontiguousarray(np.moveaxis(colors[grid[tuple(places)]], -1, 0))

    def surface(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Subject`."""
        size = max(count, _COLOR_SAMPLES)
        if size not in self._drawn:
            self._drawn[size] = self.field.surface(size, self.rng("surface"))
        points, normals, colors = self._drawn[size]
        return points[:count], normals[:count], colors[:count]

    def sharp(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Subject`."""
        drawn = self.field.sharp(count, self.rng("sharp"))
        return drawn.points, drawn.normals

    def distance(self, points: np.ndarray) -> np.ndarray:
        """See `Subject`."""
        return self.field.distance(points)

    def triangles(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Subject`."""
        return self.mesh.vertices, self.mesh.faces

    def drawable(self) -> Surface:
        """See `Subject`."""
        from maquette_data3d.rendering.surfaces import Surface

        return Surface.of_scene(self.mesh, self.scene)

    def parts(self, points: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """See `Subject`."""
        _, face, _ = self._tree.closest(points.astype(np.float64))
        return self.scene.part[self.mesh.source_face[face]].astype(np.int64), self.scene.part_names

    def materials(self, points: np.ndarray) -> np.ndarray:
        """See `Subject`; factors alone, without textures."""
        _, face, _ = self._tree.closest(points.astype(np.float64))
        known = [(material.metallic, material.roughness) for material in self.scene.materials]
        factors = np.array([*known, (0.0, 1.0)], np.float32)  # the last one is for faces without a material
        return factors[self.scene.material[self.mesh.source_face[face]]]

    def rig(self) -> Rig | None:
        """See `Subject`."""
        skeleton = self.scene.skeleton
        if skeleton is None or not len(skeleton.parents):
            return None
        positions = skeleton.rest[:, :3, 3] * self.mesh.scale + self.mesh.offset
        return Rig(skeleton.names, skeleton.parents.astype(np.int16), positions.astype(np.float32))

    def skin(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Subject`."""
        if self.scene.joints is None or self.scene.weights is None:
            return no_skin(len(points))
        _, face, closest = self._tree.closest(points.astype(np.float64))
        corners = self.mesh.faces[face]
        share = barycentric(self.mesh.vertices[corners], closest)
        source = self.mesh.source_vertex[corners]
        rig = self.rig()
        return blended(self.scene.joints[source], self.scene.weights[source], share, len(rig.parents) if rig else 1)


class ShapeSubject:
    """A procedural shape, whose distances, parts and joints are known exactly."""

    def __init__(self, shape: ProceduralShape, resolution: int, truncation: float) -> None:
        self.shape, self.resolution, self._own = shape, resolution, (resolution, truncation)
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._grids: dict[tuple[int, float], np.ndarray] = {}

    def rng(self, purpose: str) -> np.random.Generator:
        """See `Subject`."""
        word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big")
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.shape.seed, self.shape.index, word])))

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
