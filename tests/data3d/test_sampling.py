"""Samples lie where they should, as often as they should, and depend on their generator alone."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_data3d.geometry.fields import mesh_field
from maquette_data3d.geometry.sampling import (
    in_file_order,
    near_points,
    sharp_edges,
    sharp_samples,
    surface_samples,
    volume_points,
)

BOX = trimesh.creation.box((0.9, 0.6, 0.3))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@given(st.integers(0, 10_000))
def test_surface_samples_lie_on_their_faces(seed):
    made = trimesh.creation.icosphere(2, 0.4)
    found = surface_samples(made.vertices, made.faces, 200, rng(seed))
    assert found.points.dtype == found.normals.dtype == found.weights.dtype == np.float32
    corners = made.vertices[made.faces[found.face]]
    assert np.abs((corners * found.weights[:, :, None]).sum(1) - found.points).max() < 1e-6
    assert (found.weights >= -1e-6).all() and np.abs(found.weights.sum(1) - 1).max() < 1e-6
    assert np.abs(found.normals - made.face_normals[found.face]).max() < 1e-5
    again = surface_samples(made.vertices, made.faces, 200, rng(seed))
    assert np.array_equal(found.points, again.points)


def test_faces_are_drawn_by_area_and_points_evenly_on_them():
    found = surface_samples(BOX.vertices, BOX.faces, 60_000, rng())
    share = np.bincount(found.face, minlength=12) / 60_000
    assert np.abs(share - BOX.area_faces / BOX.area).max() < 0.006
    assert np.abs(found.weights.mean(0) - 1 / 3).max() < 0.005


def test_faces_without_area_are_never_drawn():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 2, 2.0]])
    faces = np.array([[3, 3, 3], [0, 1, 2], [0, 0, 1]])
    assert (surface_samples(vertices, faces, 1000, rng()).face == 1).all()
    for wrong in (faces[[0, 2]], faces[:0]):
        with pytest.raises(MaquetteError, match="no face of the mesh has any area"):
            surface_samples(vertices, wrong, 10, rng())


def test_a_box_is_sharp_on_its_twelve_edges():
    first, second, corner = sharp_edges(BOX.vertices, BOX.faces)
    assert len(first) == 12 and (first != second).all()
    found = sharp_samples(BOX.vertices, BOX.faces, 8000, rng())
    at_side = np.abs(np.abs(found.points) - np.array([0.45, 0.3, 0.15])) < 1e-6
    assert (at_side.sum(1) >= 2).all()
    assert np.abs(np.linalg.norm(found.normals, axis=1) - 1).max() < 1e-5
    assert (np.abs((found.normals * np.sign(found.points)).sum(1) - np.sqrt(2)) < 1e-4).mean() > 0.99
    along = (~at_side).argmax(1)[at_side.sum(1) == 2]
    assert np.abs(np.bincount(along, minlength=3) / len(along) - np.array([0.9, 0.6, 0.3]) / 1.8).max() < 0.02
    corners = BOX.vertices[BOX.faces[found.face]]
    assert np.abs((corners * found.weights[:, :, None]).sum(1) - found.points).max() < 1e-6
    assert corner.min() >= 0 and corner.max() <= 2


def test_borders_are_sharp_and_a_fine_sphere_is_not():
    ball = trimesh.creation.icosphere(3, 0.4)
    assert len(sharp_edges(ball.vertices, ball.faces)[0]) == 0
    whole = sharp_samples(ball.vertices, ball.faces, 500, rng(1))
    assert np.array_equal(whole.points, surface_samples(ball.vertices, ball.faces, 500, rng(1)).points)
    half = ball.submesh([np.flatnonzero(ball.triangles_center[:, 1] > 0)], append=True)
    rim = sharp_samples(half.vertices, half.faces, 500, rng(1))
    assert np.abs(rim.points[:, 1]).max() < 0.05 and len(sharp_edges(half.vertices, half.faces)[0]) > 10


def test_near_points_spread_as_their_sigmas_say():
    base = np.zeros((7, 3))
    found = near_points(base, 30_000, rng(), (0.01, 0.1))
    size = np.sort(np.linalg.norm(found, axis=1))
    assert found.shape == (30_000, 3) and found.dtype == np.float32
    mixed = np.sqrt((0.01**2 + 0.1**2) / 2)
    assert abs(found.std() / mixed - 1) < 0.03 and abs(np.median(size[:15_000]) / (0.01 * 1.538) - 1) < 0.1
    assert len(near_points(base, 0, rng())) == 0


def test_volume_points_fill_their_cube():
    found = volume_points(20_000, rng())
    assert np.abs(found).max() <= 0.525 and np.abs(found).max() > 0.52
    assert np.abs(found.mean(0)).max() < 0.01 and np.abs(found.var(0) - 1.05**2 / 12).max() < 0.003


def test_samples_of_a_field_lead_back_to_the_file():
    ball = trimesh.creation.icosphere(2)
    faces = ball.faces[:, ::-1].copy()  # inwards: the whole part is turned
    faces[::7] = faces[::7, ::-1]
    loose, colors = ball.vertices[faces].reshape(-1, 3), rng().integers(0, 256, (len(faces), 3, 3)).astype(np.uint8)
    found = mesh_field(loose, np.arange(len(loose)).reshape(-1, 3), colors, 32)
    drawn = found.samples(500, rng(2))
    face, weights = in_file_order(drawn, found.bodies.source_face, found.bodies.turned)
    points = (loose.reshape(-1, 3, 3)[face] * weights[:, :, None]).sum(1) * 0.45
    assert found.bodies.turned.mean() > 0.5 and np.abs(points - drawn.points).max() < 1e-3
    blend = (colors[face].astype(float) * weights[:, :, None]).sum(1)
    assert np.abs(blend - found.color(drawn)).max() <= 0.51
    assert np.array_equal(found.surface(500, rng(2))[0], drawn.points)
