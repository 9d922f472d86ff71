"""Extraction: scale, closure, orientation, colours, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig, signed_volumes


def grid(resolution: int) -> NDArray[np.float64]:
    """Cell centres [3,R,R,R]."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))


def sphere(resolution: int, radius: float, center: tuple[float, float, float] = (0, 0, 0)) -> NDArray[np.float32]:
    offset = grid(resolution) - np.array(center).reshape(3, 1, 1, 1)
    return np.clip((np.linalg.norm(offset, axis=0) - radius) / 0.05, -1, 1).astype(np.float32)


def assert_closed_and_outward(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> None:
    """Each directed edge occurs once and its reverse once; the volume is positive; no face is without
    area."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    forward = directed[:, 0] * len(vertices) + directed[:, 1]
    backward = directed[:, 1] * len(vertices) + directed[:, 0]
    assert len(np.unique(forward)) == len(forward)
    assert np.array_equal(np.sort(forward), np.sort(backward))
    assert signed_volumes(vertices.astype(np.float64), faces).sum() > 0
    corners = vertices.astype(np.float64)[faces]
    assert (np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) > 0).all()


def welded(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.integer]:
    """Faces after merging vertices that coincide exactly."""
    _, index = np.unique(vertices, axis=0, return_inverse=True)
    return index.reshape(-1)[faces]


extract = MarchingCubes(MarchingCubesConfig(min_component=0.0))


@pytest.mark.parametrize("resolution", [32, 64])
@pytest.mark.parametrize("radius", [0.25, 0.45])
def test_sphere_comes_back(resolution: int, radius: float) -> None:
    mesh = extract(sphere(resolution, radius))
    lengths = np.linalg.norm(mesh.vertices, axis=1)
    assert abs(lengths.mean() / radius - 1) < 0.005
    assert abs(lengths / radius - 1).max() < 0.005
    assert np.abs(mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)).max() < 1e-4, "centred"
    assert_closed_and_outward(mesh.vertices, mesh.faces)


def test_axes_are_not_exchanged() -> None:
    mesh = extract(sphere(32, 0.1, (0.2, -0.1, 0.3)))
    np.testing.assert_allclose(mesh.vertices.mean(axis=0), [0.2, -0.1, 0.3], atol=0.005)


def test_surface_at_the_border_is_closed_within_the_cube() -> None:
    for field in (np.full((16, 16, 16), -1.0), sphere(24, 0.8)):
        mesh = extract(field.astype(np.float32) * 3)
        assert np.abs(mesh.vertices).max() <= 0.5
        assert_closed_and_outward(mesh.vertices, mesh.faces)


@given(seed=st.integers(0, 2**31), smooth=st.sampled_from([0.0, 0.7, 1.5, 3.0]), level=st.sampled_from([0, 2]))
def test_any_field_gives_a_closed_mesh(seed: int, smooth: float, level: int) -> None:
    """Also fields with many exact zeros, which open the surfaces of plain marching cubes."""
    field = np.random.default_rng(seed).standard_normal((14, 14, 14))
    field = gaussian_filter(field, smooth) if smooth else field
    field = field / np.abs(field).max()
    if level:
        field = np.round(field * level) / level
    field[7, 7, 7] = -1.0
    mesh = extract(field.astype(np.float32))
    assert_closed_and_outward(mesh.vertices, mesh.faces)
    faces = welded(mesh.vertices, mesh.faces)
    assert np.array_equal(np.sort(np.unique(faces)), np.arange(len(mesh.vertices))), "no two vertices coincide"


def test_crumbs_are_left_out() -> None:
    two = np.minimum(sphere(48, 0.25), sphere(48, 0.04, (0.4, 0.4, 0.4)))
    whole = extract(two)
    cleaned = MarchingCubes(MarchingCubesConfig(min_component=0.02))(two)
    assert whole.vertices.max() > 0.4
    assert cleaned.vertices.max() < 0.3
    assert_closed_and_outward(cleaned.vertices, cleaned.faces)
    assert len(np.unique(cleaned.faces)) == len(cleaned.vertices) == len(cleaned.colors)


def test_cavities_stay() -> None:
    shell = np.maximum(sphere(48, 0.4), -sphere(48, 0.2))
    mesh = MarchingCubes(MarchingCubesConfig())(shell)
    volume = signed_volumes(mesh.vertices.astype(np.float64), mesh.faces).sum()
    assert volume == pytest.approx(4 / 3 * np.pi * (0.4**3 - 0.2**3), rel=0.01)


def test_colors_are_looked_up_where_vertices_are() -> None:
    color = np.zeros((3, 16, 16, 16), np.float32)
    color[0], color[2, :, 8:] = grid(16)[0] + 0.5, 1.0
    mesh = extract(torch.from_numpy(sphere(32, 0.3)), torch.from_numpy(color))
    red = mesh.colors[:, 0] / 255
    np.testing.assert_allclose(red, mesh.vertices[:, 0] + 0.5, atol=0.005)
    assert (mesh.colors[mesh.vertices[:, 1] > 0.05, 2] == 255).all()
    assert (mesh.colors[mesh.vertices[:, 1] < -0.05, 2] == 0).all()
    assert (mesh.colors[:, 3] == 255).all()


def test_what_has_no_surface_is_refused() -> None:
    with pytest.raises(MaquetteError, match="empty"):
        extract(np.ones((8, 8, 8), np.float32))
    with pytest.raises(MaquetteError, match="NaN"):
        extract(np.full((8, 8, 8), np.nan, np.float32))
    with pytest.raises(MaquetteError, match="min_component"):
        plugins.build("decoders", {"name": "marching_cubes", "min_component": 2.0})
