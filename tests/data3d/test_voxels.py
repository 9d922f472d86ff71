"""Surface voxels against a brute-force test of every triangle with every box."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from maquette.errors import MaquetteError
from maquette_data3d.geometry.voxels import sparse_voxels


def clipped(triangle: np.ndarray, low: np.ndarray) -> bool:
    """Whether a triangle meets a closed unit box, by cutting it with the six half-spaces one after another."""
    polygon = [np.array(p) for p in triangle]
    for axis in range(3):
        for sign, bound in ((1, low[axis]), (-1, -low[axis] - 1)):
            kept = []
            for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
                d, e = sign * p[axis] - bound, sign * q[axis] - bound
                if d >= 0:
                    kept.append(p)
                if d * e < 0:
                    kept.append(p + (q - p) * (d / (d - e)))
            polygon = kept
            if not polygon:
                return False
    return True


def brute_force(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> np.ndarray:
    corners = (vertices[faces] + 0.5) * resolution
    cells = np.stack(np.meshgrid(*[np.arange(resolution)] * 3, indexing="ij"), -1).reshape(-1, 3)
    near = (corners.min(1)[:, None] <= cells + 1).all(2) & (corners.max(1)[:, None] >= cells).all(2)
    touched = [any(clipped(corners[f], cell) for f in np.flatnonzero(n)) for cell, n in zip(cells, near.T, strict=True)]
    return cells[touched]


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 5, 8]), st.integers(1, 6), st.floats(-2, 0))
def test_the_same_voxels_as_by_brute_force(seed, resolution, count, size):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.55, 0.55, (count, 1, 3)) + rng.normal(size=(count, 3, 3)) * 10**size
    vertices, faces = corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)
    found = sparse_voxels(vertices, faces, resolution)
    assert found.dtype == np.int32
    assert found.tolist() == brute_force(vertices, faces, resolution).tolist()


@given(st.integers(0, 10_000), st.sampled_from([2, 4, 8]))
def test_triangles_on_the_grid_s_planes_touch_both_sides(seed, resolution):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, resolution + 1, (2, 3, 3))
    corners[0, :, rng.integers(3)] = resolution // 2
    vertices, faces = corners.reshape(-1, 3) / resolution - 0.5, np.arange(6).reshape(-1, 3)
    found = {tuple(v) for v in sparse_voxels(vertices, faces, resolution).tolist()}
    expected = set()
    for cell in np.ndindex((resolution,) * 3):
        for triangle in corners:
            # A box and a triangle meet where some blend of the corners lies in the box.
            sides = np.concatenate([triangle.T, -triangle.T])
            bounds = np.concatenate([np.add(cell, 1), -np.array(cell)]) + 1e-9
            if linprog(np.zeros(3), sides, bounds, np.ones((1, 3)), [1], method="highs").status == 0:
                expected.add(cell)
    assert found == expected


def test_a_sphere_s_voxels_are_those_between_two_radii():
    ball = trimesh.creation.icosphere(5, 0.4)
    found = sparse_voxels(ball.vertices, ball.faces, 48)
    cells = np.stack(np.meshgrid(*[np.arange(48)] * 3, indexing="ij"), -1).reshape(-1, 3) / 48 - 0.5
    nearest = np.linalg.norm(np.maximum(np.maximum(cells, -cells - 1 / 48), 0), axis=1)
    farthest = np.linalg.norm(np.maximum(np.abs(cells), np.abs(cells + 1 / 48)), axis=1)
    surely = {tuple(c) for c in np.round((cells + 0.5) * 48).astype(int)[(nearest < 0.399) & (farthest > 0.4)].tolist()}
    maybe = {tuple(c) for c in np.round((cells + 0.5) * 48).astype(int)[(nearest < 0.4) & (farthest > 0.398)].tolist()}
    assert surely <= {tuple(c) for c in found.tolist()} <= maybe
    assert (np.diff((found[:, 0] * 48 + found[:, 1]) * 48 + found[:, 2]) > 0).all()


def test_nothing_outside_and_nothing_of_nothing():
    away = np.array([[0.6, 0, 0], [0.7, 0, 0], [0.6, 0.1, 0]])
    assert sparse_voxels(away, np.array([[0, 1, 2]]), 16).shape == (0, 3)
    assert sparse_voxels(away, np.zeros((0, 3), int), 16).shape == (0, 3)
    with pytest.raises(MaquetteError, match="resolution is 2000"):
        sparse_voxels(away, np.array([[0, 1, 2]]), 2000)
