"""Distances against analytic shapes, closed and open, whole and broken."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from maquette_data3d.geometry.bodies import Bodies
from maquette_data3d.geometry.fields import MeshField, cell_centres, field_of, mesh_field
from maquette_data3d.geometry.repair import clean

R = 64
VOXEL = 1 / R
GRID = cell_centres(R)


def field(mesh, resolution=R):
    return mesh_field(mesh.vertices, mesh.faces, np.full((len(mesh.faces), 3, 3), 200, np.uint8), resolution)


def sphere(radius=1.0, at=(0, 0, 0), subdivisions=4):
    made = trimesh.creation.icosphere(subdivisions, radius)
    made.apply_translation(at)
    return made


def box(size, at=(0, 0, 0)):
    made = trimesh.creation.box(size)
    made.apply_translation(at)
    return made


def box_distance(points, half, at=(0, 0, 0)):
    away = np.abs(points - at) - half
    return np.linalg.norm(np.maximum(away, 0), axis=1) + np.minimum(away.max(1), 0)


def check(made, expected, band=VOXEL, tolerance=1e-3, wrong=0.001):
    """Signs outside one voxel of the surface, distances within the truncation band."""
    grid = made.tsdf(R, 0.05).reshape(-1)
    clear = np.abs(expected) > band
    assert (np.sign(grid[clear]) != np.sign(expected[clear])).mean() <= wrong
    near = np.abs(expected) < 0.045
    assert np.abs(grid[near] * 0.05 - expected[near]).max() < tolerance


def test_sphere():
    check(field(sphere(subdivisions=5)), np.linalg.norm(GRID, axis=1) - 0.45)


def test_box():
    check(field(box((2, 1, 0.5))), box_distance(GRID, np.array([0.45, 0.225, 0.1125])), tolerance=1e-5)


def test_torus():
    made = trimesh.creation.torus(1.0, 0.4, 96, 48)
    scale = 0.9 / 2.8
    around = np.hypot(GRID[:, 0], GRID[:, 1]) - scale
    check(field(made), np.hypot(around, GRID[:, 2]) - 0.4 * scale, tolerance=2e-3)


def test_overlapping_solids_are_their_union():
    made = box((2, 1, 1), (-0.5, 0, 0)) + box((2, 1, 1), (0.5, 0.1, 0))
    scale = 0.9 / 3
    one = box_distance(GRID, np.array([1, 0.5, 0.5]) * scale, np.array([-0.5, -0.05, 0]) * scale)
    two = box_distance(GRID, np.array([1, 0.5, 0.5]) * scale, np.array([0.5, 0.05, 0]) * scale)
    check(field(made), np.minimum(one, two), tolerance=1e-5)


@pytest.mark.parametrize("inwards", [False, True])
def test_inner_shells_are_dropped_whichever_way_they_face(inwards):
    inner = sphere(0.5)
    if inwards:
        inner.invert()
    check(field(sphere(1.0, subdivisions=5) + inner), np.linalg.norm(GRID, axis=1) - 0.45)


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_flipped_faces_are_turned_back(share):
    made = sphere(subdivisions=5)
    chosen = np.random.default_rng(0).random(len(made.faces)) < share
    faces = np.where(chosen[:, None], made.faces[:, ::-1], made.faces)
    found = mesh_field(made.vertices, faces, np.zeros((len(faces), 3, 3), np.uint8), R)
    check(found, np.linalg.norm(GRID, axis=1) - 0.45)
    assert "flipped_faces" in found.bodies.repairs or "turned_parts" in found.bodies.repairs


def test_missing_faces_and_a_hole_leave_the_sign_right():
    made = sphere(subdivisions=5)
    rng = np.random.default_rng(1)
    keep = (rng.random(len(made.faces)) > 0.05) & (made.triangles_center[:, 1] < 0.97)
    found = mesh_field(made.vertices, made.faces[keep], np.zeros((keep.sum(), 3, 3), np.uint8), R)
    grid, expected = found.tsdf(R, 0.05).reshape(-1), np.linalg.norm(GRID, axis=1) - 0.45
    clear = np.abs(expected) > 2 * VOXEL
    assert (np.sign(grid[clear]) != np.sign(expected[clear])).mean() < 0.002
    # A hard sign: well inside the sphere the distance is never bent towards zero.
    assert (grid[expected < -0.06] == -1).mean() > 0.995


def test_triangle_soup_is_welded():
    made = sphere(subdivisions=4)
    loose = made.vertices[made.faces].reshape(-1, 3)
    found = mesh_field(loose, np.arange(len(loose)).reshape(-1, 3), np.zeros((len(made.faces), 3, 3), np.uint8), R)
    check(found, np.linalg.norm(GRID, axis=1) - 0.45, tolerance=3e-3)
    assert found.bodies.repairs["merged_vertices"] == len(loose) - len(made.vertices)


def test_loose_sides_of_a_box_close_each_other():
    made = box((1, 1, 1))
    spread = made.vertices[made.faces].reshape(-1, 3)
    # Sides that do not share vertices: each is moved out by more than welding bridges.
    spread = spread + np.repeat(made.face_normals, 3, axis=0) * 1e-4
    found = mesh_field(spread, np.arange(len(spread)).reshape(-1, 3), np.zeros((12, 3, 3), np.uint8), R)
    assert len(found.bodies.sheet) == 0
    check(found, box_distance(GRID, np.full(3, 0.45)), tolerance=2e-3)


def test_an_open_hemisphere_is_kept_as_a_shell():
    made = sphere(subdivisions=5)
    made = made.submesh([np.flatnonzero(made.triangles_center[:, 1] > 0)], append=True)
    found = field(made)
    assert len(found.bodies.sheet) == len(made.faces) and not found.bodies.solids
    scale = 0.45
    centre = np.array([0, -scale / 2, 0])
    away = np.abs(np.linalg.norm(GRID - centre, axis=1) - scale)
    upper = GRID[:, 1] > centre[1] + 0.05
    grid = found.tsdf(R, 0.05).reshape(-1)
    expected = np.clip((away - 0.75 * VOXEL) / 0.05, -1, 1)
    assert np.abs(grid[upper] - expected[upper]).max() < 0.02
    assert (grid[np.linalg.norm(GRID - centre, axis=1) < 0.4] > 0).all()  # the bowl is empty


@pytest.mark.parametrize(("missing", "filled"), [(-1, True), (1, False)])
def test_a_box_without_its_bottom_is_a_house_and_one_without_its_lid_a_container(missing, filled):
    made = box((1, 1, 1))
    kept = made.submesh([np.flatnonzero(made.face_normals[:, 1] * missing < 0.5)], append=True)
    found = field(kept)
    assert bool(found.bodies.solids) == filled and (len(found.bodies.sheet) == 0) == filled
    middle = found.tsdf(R, 0.05)[R // 2 - 4 : R // 2 + 4, 12 : R - 12, R // 2 - 4 : R // 2 + 4]
    assert (middle < 0).all() if filled else (middle > 0).all()


def test_flaps_that_hang_on_a_solid_are_kept():
    made = box((1, 1, 1))
    kept = np.flatnonzero(made.face_normals[:, 1] > -0.5)
    corner = np.flatnonzero((made.vertices[:, 0] > 0.4) & (made.vertices[:, 1] < 0))
    outer = made.vertices[corner] + np.array([0.8, -0.1, 0])
    vertices = np.concatenate([made.vertices, outer])
    flap = [[corner[0], corner[1], 8], [corner[1], 9, 8]]
    faces = np.concatenate([made.faces[kept], flap])
    found = mesh_field(vertices, faces, np.zeros((len(faces), 3, 3), np.uint8), R)
    assert set(found.bodies.sheet) == {len(faces) - 2, len(faces) - 1} and len(found.bodies.solids) == 1
    assert (found.tsdf(R, 0.05)[-12:] < 0).any()


def test_a_sheet_without_thickness_and_a_solid_keep_both():
    made = box((1, 1, 1), (-1, 0, 0))
    plane = trimesh.Trimesh([[0, -0.5, -0.5], [1, -0.5, -0.5], [1, 0.5, 0.5], [0, 0.5, 0.5]],
                            [[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 0]], process=False)  # fmt: skip
    found = field(made + plane)
    assert len(found.bodies.solids) == 1 and len(found.bodies.sheet) == 2
    assert found.bodies.repairs["duplicate_faces"] == 2
    grid = found.tsdf(R, 0.05)
    assert (grid[: R // 2] < 0).any() and (grid[R // 2 + 8 :] < 0).any()


def test_a_solid_thinner_than_a_voxel_does_not_vanish():
    found = field(box((1, 0.004, 1)))
    assert len(found.bodies.thin) == 12
    assert (found.tsdf(R, 0.05) < 0).any(axis=1).sum() > 0.9 * (0.9 * R) ** 2


def test_surface_points_lie_on_the_outer_surface_only():
    made = box((2, 1, 1), (-0.5, 0, 0)) + box((2, 0.8, 0.8), (0.5, 0, 0)) + sphere(0.2, subdivisions=2)
    found = field(made)
    points, normals, colors = found.surface(4000, np.random.default_rng(0))
    assert points.shape == normals.shape == (4000, 3) and (colors == 200).all()
    one = box_distance(points, np.array([0.3, 0.15, 0.15]), np.array([-0.15, 0, 0]))
    two = box_distance(points, np.array([0.3, 0.12, 0.12]), np.array([0.15, 0, 0]))
    assert np.abs(np.minimum(one, two)).max() < 1e-5
    assert (found.distance(points + 0.01 * normals) > 0).mean() > 0.98
    area_one, area_two = 0.6 * 0.3 * 4 + 0.3**2 + (0.3**2 - 0.24**2), 0.3 * 0.24 * 4 + 0.24**2
    assert abs((np.abs(one) < 1e-5).mean() - area_one / (area_one + area_two)) < 0.03


@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(-40, 40))
def test_results_do_not_depend_on_order_scale_or_place(seed, exponent, shift):
    rng = np.random.default_rng(seed)
    made = trimesh.creation.torus(1.0, 0.3, 24, 12) + box((0.8, 0.8, 0.8))
    before = field(made, 16).tsdf(16, 0.1)
    order = rng.permutation(len(made.faces))
    relabel = rng.permutation(len(made.vertices))
    vertices = made.vertices[np.argsort(relabel)] * 10**exponent + shift
    after = mesh_field(vertices, relabel[made.faces][order], np.zeros((len(order), 3, 3), np.uint8), 16).tsdf(16, 0.1)
    assert np.abs(before - after).max() < 5e-3


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1, 1])] * 3))
def test_turning_a_mesh_turns_its_field(axes, signs):
    made = trimesh.creation.torus(1.0, 0.3, 24, 12) + box((0.8, 0.3, 1.9), (0.3, 0.2, 0.1))
    before = field(made, 16).tsdf(16, 0.1)
    matrix = np.zeros((3, 3))
    matrix[[0, 1, 2], axes] = signs
    turned = made.copy()
    turned.vertices = made.vertices @ matrix.T
    faces = turned.faces[:, ::-1] if np.linalg.det(matrix) < 0 else turned.faces
    after = mesh_field(turned.vertices, faces, np.zeros((len(faces), 3, 3), np.uint8), 16).tsdf(16, 0.1)
    expected = before.transpose(axes)
    for axis, sign in enumerate(signs):
        expected = np.flip(expected, axis) if sign < 0 else expected
    assert np.abs(after - expected).max() < 5e-3


def test_distance_at_points_agrees_with_the_grid():
    found = field(trimesh.creation.torus(1.0, 0.3, 24, 12) + box((0.8, 0.8, 0.8)))
    assert isinstance(found, MeshField) and isinstance(found.bodies, Bodies)
    exact = np.clip(found.distance(GRID) / 0.05, -1, 1)
    assert np.abs(found.tsdf(R, 0.05).reshape(-1) - exact).max() < 1e-6


@pytest.mark.parametrize("missing", [0.0, 0.03])
@pytest.mark.parametrize(("resolution", "truncation"), [(64, 0.004), (36, 0.01), (16, 0.02), (48, 0.06)])
def test_narrow_bands_of_any_width_have_the_right_signs(resolution, truncation, missing):
    made = trimesh.creation.torus(1.0, 0.3, 48, 24) + box((0.8, 0.8, 0.8))
    kept = np.random.default_rng(0).random(len(made.faces)) >= missing
    found = mesh_field(made.vertices, made.faces[kept], np.zeros((kept.sum(), 3, 3), np.uint8), resolution)
    exact = np.clip(found.distance(cell_centres(resolution)) / truncation, -1, 1)
    assert (np.abs(found.tsdf(resolution, truncation).reshape(-1) - exact) > 1e-5).mean() < (1e-4 if missing else 1e-9)


def test_cleaning_counts_what_it_does():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1 + 1e-9], [9, 9, 9.0]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 4, 2], [1, 2, 3], [1, 2, 3], [3, 4, 0], [0, 0, 1]])
    mesh = clean(vertices, faces, np.zeros((7, 3, 3), np.uint8))
    assert mesh.repairs == {
        "unreferenced_vertices": 1,
        "merged_vertices": 1,
        "degenerate_faces": 2,
        "duplicate_faces": 1,
    }
    assert len(mesh.faces) == 4 and len(field_of(mesh, 16).bodies.solids) == 1
