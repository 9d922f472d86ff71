"""The surface of a grid is closed, where it should be, and facing outwards."""

from __future__ import annotations

import numpy as np
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from maquette_data3d.geometry.fields import cell_centres
from maquette_data3d.surface import extract


@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 7, 12]))
def test_noise_gives_a_closed_surface(seed, resolution):
    vertices, faces = extract(np.random.default_rng(seed).normal(size=(resolution,) * 3))
    solid = trimesh.Trimesh(vertices, faces, process=False)
    assert solid.is_watertight and solid.is_winding_consistent and solid.volume > 0


def test_a_sphere_comes_back_with_its_radius():
    grid = np.linalg.norm(cell_centres(64), axis=1).reshape(64, 64, 64) - 0.4
    vertices, faces = extract(grid)
    radii = np.linalg.norm(vertices, axis=1)
    assert abs(radii.mean() / 0.4 - 1) < 0.002 and radii.min() > 0.399 and radii.max() < 0.4001
    solid = trimesh.Trimesh(vertices, faces, process=False)
    assert abs(solid.volume / (4 / 3 * np.pi * 0.4**3) - 1) < 0.003


def test_axes_are_x_y_z():
    offset = cell_centres(32) - np.array([0.2, -0.1, 0.3])
    vertices, _ = extract((np.linalg.norm(offset, axis=1) - 0.1).reshape(32, 32, 32))
    assert np.allclose((vertices.min(0) + vertices.max(0)) / 2, [0.2, -0.1, 0.3], atol=0.002)


def test_nothing_inside_gives_nothing():
    vertices, faces = extract(np.ones((8, 8, 8)))
    assert len(vertices) == len(faces) == 0
