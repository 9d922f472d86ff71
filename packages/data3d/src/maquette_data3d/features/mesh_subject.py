"""A mesh from a file as the subject of features, with what they share made once."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from maquette_data3d.features.skinning import barycentric, blended, no_skin
from maquette_data3d.features.subject import Rig, generator

if TYPE_CHECKING:
    from maquette_data3d.geometry.fields import MeshField
    from maquette_data3d.geometry.repair import CleanMesh
    from maquette_data3d.ingest.scene import Scene
    from maquette_data3d.rendering.surfaces import Surface
    from maquette_kernels.distance.tree import TriangleTree

_COLOR_SAMPLES = 16_384
_NEAR = 2  # cells around the surface whose colour is found exactly


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
        from maquette_kernels.distance.tree import TriangleTree

        return TriangleTree(self.mesh.vertices, self.mesh.faces)

    def rng(self, purpose: str) -> np.random.Generator:
        """See `Subject`."""
        return generator(purpose, self.seed)

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

    def watertight(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Subject`."""
        from maquette_data3d.geometry.watertight import watertight

        return watertight(self.cleaned, resolution)

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
