"""Skinned meshes that clips are put onto."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from maquette.types import Mesh, Skeleton, Skin
from maquette_data3d import sample_shape


@cache
def creature(class_name: str, index: int, seed: int = 3) -> Mesh:
    """A procedural creature with its true skeleton and weights."""
    shape = sample_shape(seed, index, 1.0, [class_name])
    mesh = shape.mesh(48)
    names, parents, positions = shape.skeleton()
    rest = np.tile(np.eye(4), (len(names), 1, 1))
    rest[:, :3, 3] = positions
    joints, weights = shape.skin(mesh.vertices)
    return replace(mesh, skin=Skin(Skeleton(names, parents, rest), joints.astype(np.int32), weights))


@pytest.fixture(scope="session")
def creatures():
    """`creatures(class_name, index)`."""
    return creature
