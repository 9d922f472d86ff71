"""What is told of each pair of a surface point and a joint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette_models.rigging.bones import bones_of, distances_to_bones
from maquette_models.rigging.skeleton_tree import Tree
from maquette_models.rigging.solid_geodesics import geodesics, solid_of, voxels_of

PAIR_FEATURES = 14
DEPTH = 2  # the place of how deep a point lies under the limb's own surface, in units of `NEAR`
NEAR = 0.05  # a distance at which weights change, in the unit cube's units


@dataclass(frozen=True)
class Binding:
    """A shape and its skeleton, ready to be asked about points: see `bind`."""

    tree: Tree
    number: NDArray[np.int64]
    ways: NDArray[np.float32]
    radii: NDArray[np.float64]

    def features(self, points: NDArray[np.floating], normals: NDArray[np.floating]) -> NDArray[np.float32]:
        """Float32 [P, J, PAIR_FEATURES] of points with normals [P, 3]."""
        bones = bones_of(self.tree)
        to = distances_to_bones(points, bones)
        way = self.ways_of(points)
        offset = points[:, None] - bones.positions
        depth = to.distance - self.radii
        facing = (normals[:, None] * to.offset).sum(-1) / np.maximum(to.distance, 1e-6)
        columns = (
            to.distance / (4 * NEAR),
            np.log(to.distance + 0.1 * NEAR) / 2,
            depth / NEAR,
            (depth - depth.min(axis=1, keepdims=True)) / NEAR,
            (to.distance - to.distance.min(axis=1, keepdims=True)) / NEAR,
            way / (4 * NEAR),
            (way - way.min(axis=1, keepdims=True)) / NEAR,
            facing,
            to.along,
            (offset * bones.inward).sum(-1) / NEAR,
            np.linalg.norm(offset, axis=-1) / (4 * NEAR),
        )
        found = np.concatenate([np.stack(columns, axis=-1), offset / (4 * NEAR)], axis=-1)
        return found.clip(-10, 10).astype(np.float32)

    def ways_of(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """The length float32 [P, J] of the way through the body from points [P, 3] to each bone."""
        return self.ways[self._voxels(points)]

    def _voxels(self, points: NDArray[np.floating]) -> NDArray[np.int64]:
        """The number of each point's voxel, or of the nearest one where that is empty."""
        places = voxels_of(points, len(self.number))
        found = self.number[tuple(places.T)]
        if (found < 0).any():
            from scipy.spatial import cKDTree

            inside = np.argwhere(self.number >= 0)
            _, nearest = cKDTree(inside).query(places[found < 0])
            found = found.copy()
            found[found < 0] = self.number[tuple(inside[nearest].T)]
        return found


def bind(surface: NDArray[np.floating], normals: NDArray[np.floating], tree: Tree) -> Binding:
    """Look at a shape by points [P, 3] of its surface and their normals, all in the unit cube."""
    bones = bones_of(tree)
    solid = solid_of(surface, normals)
    ways = geodesics(solid, bones)
    own = Binding(tree, solid.number, ways, np.zeros(len(tree)))
    nearest = own.ways_of(surface).argmin(axis=1)
    distance = distances_to_bones(surface, bones).distance[np.arange(len(surface)), nearest]
    count = np.bincount(nearest, minlength=len(tree))
    radii = np.bincount(nearest, distance, minlength=len(tree)) / np.maximum(count, 1)
    return Binding(tree, solid.number, ways, radii)
