"""Rigs without any training, to compare with: mean skeletons in the box of a shape, weights by geodesic distance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from maquette_models.rigging.pair_features import Binding
from maquette_models.rigging.rigged_shapes import RiggedShape
from maquette_models.rigging.skeleton_tree import Tree
from maquette_models.rigging.solid_geodesics import Solid, solid_of, voxels_of
from maquette_models.rigging.variation import framed

PROFILE = 8  # cells a side of the box that a shape is told by
REACH = 0.08  # how far around a joint the middle of the body is looked for
FALL = 0.03  # a joint's pull falls by e over this way


@dataclass(frozen=True)
class Template:
    """The mean of skeletons of one structure, positions in the box [0, 1]^3 of the shape, and how full the cells of the
    box are on average, float64 [PROFILE^3]."""

    tree: Tree
    profile: NDArray[np.float64]


def templates_of(shapes: Iterable[RiggedShape]) -> list[Template]:
    """One template for each structure (roles and parents) among shapes that have a skeleton."""
    groups: dict[tuple[bytes, bytes], list[RiggedShape]] = defaultdict(list)
    for shape in shapes:
        if len(shape.tree):
            groups[shape.tree.roles.tobytes(), shape.tree.parents.tobytes()].append(framed(shape))
    return [_mean(group) for group in groups.values()]


def fitted(templates: list[Template], surface: NDArray[np.floating], normals: NDArray[np.floating]) -> Tree:
    """The tree of the template that fills its box most alike, in the box of points [P, 3], its joints moved to the
    middle of the body around them."""
    solid = solid_of(surface, normals)
    profile = _profile(solid, surface)
    best = min(templates, key=lambda template: float(np.abs(template.profile - profile).sum()))
    low, size = surface.min(axis=0), np.ptp(surface, axis=0)
    places = low + best.tree.positions * size
    near = np.linalg.norm(places[:, None] - solid.centres, axis=-1) < REACH
    middle = (near @ solid.centres) / np.maximum(near.sum(axis=1, keepdims=True), 1)
    return replace(best.tree, positions=np.where(near.any(axis=1, keepdims=True), middle, places))


def geodesic_weights(binding: Binding, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weights [P, J] of points [P, 3] that fall with the way through the body to each bone."""
    ways = binding.ways_of(points).astype(np.float64)
    pull = np.exp(-(ways - ways.min(axis=1, keepdims=True)) / FALL)
    return pull / pull.sum(axis=1, keepdims=True)


def _mean(group: list[RiggedShape]) -> Template:
    positions, profiles = [], []
    for shape in group:
        low, size = shape.surface.min(axis=0), np.maximum(np.ptp(shape.surface, axis=0), 1e-6)
        positions.append((shape.tree.positions - low) / size)
        profiles.append(_profile(solid_of(shape.surface, shape.normals), shape.surface))
    return Template(replace(group[0].tree, positions=np.mean(positions, axis=0)), np.mean(profiles, axis=0))


def _profile(solid: Solid, surface: NDArray[np.floating]) -> NDArray[np.float64]:
    low, size = surface.min(axis=0), np.maximum(np.ptp(surface, axis=0), 1e-6)
    cells = voxels_of((solid.centres - low) / size - 0.5, PROFILE)
    number = (cells[:, 0] * PROFILE + cells[:, 1]) * PROFILE + cells[:, 2]
    count = np.bincount(number, minlength=PROFILE**3)
    return count / count.sum()
