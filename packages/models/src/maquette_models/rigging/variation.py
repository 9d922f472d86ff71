"""Other shapes made of one for training: posed, stretched, turned, mirrored, and back in the middle of the cube."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from maquette_models.rigging.posing import moved_joints, random_turns, skinned
from maquette_models.rigging.rigged_shapes import RiggedShape
from maquette_models.rigging.skeleton_tree import Tree

LONGEST = 0.9  # the longest side of a shape's box, as the data builds have it


@dataclass
class VariationConfig:
    """`pose` degrees that each joint turns by at most, `stretch` the share that each axis is scaled by at most, `turn`
    degrees about the vertical at most, `mirror` whether left and right are exchanged in half of the samples."""

    pose: float = 0.0
    stretch: float = 0.0
    turn: float = 0.0
    mirror: bool = False


def varied(
    shape: RiggedShape, rng: np.random.Generator, config: VariationConfig, mirrored: NDArray[np.int64]
) -> RiggedShape:
    """Another shape; `mirrored` is what each role becomes in a mirror."""
    if config.pose and len(shape.tree):
        shape = _posed(shape, random_turns(rng, len(shape.tree), config.pose * rng.random()))
    scales = 1 + config.stretch * rng.uniform(-1, 1, 3)
    matrix = Rotation.from_euler("y", rng.uniform(-1, 1) * config.turn, degrees=True).as_matrix() @ np.diag(scales)
    flip = config.mirror and rng.random() < 0.5
    if flip:
        matrix = np.diag([-1.0, 1.0, 1.0]) @ matrix
    return framed(_mapped(shape, matrix, mirrored if flip else None))


def framed(shape: RiggedShape) -> RiggedShape:
    """The shape with the box of its points centred and its longest side 0.9."""
    centre, scale = frame_of(shape.surface)
    surface = (shape.surface - centre) * scale
    positions = ((shape.tree.positions - centre) * scale).clip(-0.5, 0.5)
    return replace(shape, surface=surface.astype(np.float32), tree=replace(shape.tree, positions=positions))


def frame_of(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """The centre [3] of the box of points and the scale that makes its longest side 0.9."""
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    return (low + high) / 2, LONGEST / max(float((high - low).max()), 1e-9)


def _posed(shape: RiggedShape, turns: NDArray[np.float64]) -> RiggedShape:
    tree = shape.tree
    places, turned = moved_joints(tree.positions, tree.parents, turns)
    surface, blended = skinned(shape.surface, shape.weights, tree.positions, places, turned)
    normals = unit(np.einsum("pab,pb->pa", blended, shape.normals))
    return replace(shape, surface=surface, normals=normals, tree=replace(tree, positions=places))


def _mapped(shape: RiggedShape, matrix: NDArray[np.float64], roles: NDArray[np.int64] | None) -> RiggedShape:
    """The shape by a matrix; with new names of roles its joints come in another order too."""
    normals = unit(shape.normals @ np.linalg.inv(matrix))
    tree = replace(shape.tree, positions=shape.tree.positions @ matrix.T)
    mapped = replace(shape, surface=shape.surface @ matrix.T, normals=normals, tree=tree)
    if roles is None or not len(tree):
        return mapped
    tree = Tree(roles[tree.roles], tree.parents, tree.positions)
    order = tree.depth_first()
    return replace(mapped, tree=tree.reordered(order), weights=shape.weights[:, order])


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors [..., 3] of length 1; those of no length stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 1e-12, lengths, 1)).astype(np.float32)
