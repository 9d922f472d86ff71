"""Distances and signs of the tree against analytic shapes and libigl, on whole, broken and open meshes."""

from __future__ import annotations

import igl
import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from maquette.errors import MaquetteError
from maquette_data3d.geometry.distance import signed_distance
from maquette_data3d.geometry.repair import clean
from maquette_kernels.distance.tree import TriangleTree

SPHERE = trimesh.creation.icosphere(4, 0.45)
TORUS = trimesh.creation.torus(0.32, 0.12, 64, 32)


def scattered(seed: int, count: int = 600, near: np.ndarray | None = None) -> np.ndarray:
    """Points in the unit cube, half of them around the given ones."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, 3)) * 1.05 - 0.525
    if near is not None:
        points[::2] = rng.choice(near, len(points[::2])) + rng.normal(size=(len(points[::2]), 3)) * 0.02
    return points


def soup(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of all sizes anywhere, a few without area."""
    rng = np.random.default_rng(seed)
    corners = rng.normal(size=(count, 1, 3)) * 0.2 + rng.normal(size=(count, 3, 3)) * 10.0 ** rng.uniform(
        -4, 0, (count, 1, 1)
    )
    corners[:: max(count // 3, 1), 2] = corners[:: max(count // 3, 1), 1]
    return corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 7, 8, 9, 16, 17, 64, 65, 300]))
def test_closest_points_are_libigl_s(seed, count):
    vertices, faces = soup(seed, count)
    points = scattered(seed + 1, 80)
    distance, face, nearest = TriangleTree(vertices, faces).closest(points)
    squared = np.asarray(igl.point_mesh_squared_distance(points, vertices, faces)[0])
    assert np.abs(distance - np.sqrt(squared)).max() < 1e-9
    assert np.abs(np.linalg.norm(points - nearest, axis=1) - distance).max() < 1e-12
    for point, number, away in zip(points, face, distance, strict=True):
        own = igl.point_mesh_squared_distance(point[None], vertices, faces[number : number + 1])[0]
        assert abs(np.sqrt(own) - away) < 1e-9


@given(st.integers(0, 10_000), st.sampled_from([1, 8, 9, 65, 300]))
def test_winding_numbers_are_near_the_exact_ones(seed, count):
    vertices, faces = soup(seed, count)
    points = scattered(seed + 1, 60)
    exact = np.asarray(igl.winding_number(vertices, faces, points)).reshape(-1)
    tree = TriangleTree(vertices, faces)
    assert np.abs(tree.winding(points, 1e9) - exact).max() < 1e-7
    size = np.sqrt(count)  # errors of independent nodes add up
    assert np.abs(tree.winding(points) - exact).max() < 0.03 * size
    assert np.abs(tree.winding(points, 4.0) - exact).max() < 0.006 * size


def test_a_point_on_the_surface_has_distance_0_and_a_number_of_one_half_or_so():
    tree = TriangleTree(SPHERE.vertices, SPHERE.faces)
    for points in (SPHERE.vertices, SPHERE.triangles_center):
        assert tree.closest(points)[0].max() < 1e-12
        assert np.isfinite(tree.winding(points)).all()


def test_results_are_the_same_with_any_number_of_threads(monkeypatch):
    tree = TriangleTree(TORUS.vertices, TORUS.faces)
    points = scattered(3, 5000)
    before = (*tree.closest(points), tree.winding(points), tree.inside(points))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    after = (*tree.closest(points), tree.winding(points), tree.inside(points))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_no_points_no_answers():
    tree = TriangleTree(SPHERE.vertices, SPHERE.faces)
    distance, face, nearest = tree.closest(np.zeros((0, 3)))
    assert distance.shape == face.shape == (0,) and nearest.shape == (0, 3)
    assert tree.winding(np.zeros((0, 3))).shape == tree.inside(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("shape", ["empty", "point", "nan"])
def test_what_has_no_surface_is_refused_in_one_line(shape):
    vertices = np.zeros((3, 3)) if shape != "nan" else np.full((3, 3), np.nan)
    faces = np.zeros((0, 3), int) if shape == "empty" else np.array([[0, 1, 2]])
    with pytest.raises(MaquetteError) as raised:
        signed_distance(vertices, faces, np.zeros((1, 3)))
    assert "\n" not in str(raised.value) and "signed_distance" in str(raised.value)


def wrong(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of wrong signs at least .002 from the surface."""
    clear = np.abs(truth) > 2e-3
    return float((np.sign(found[clear]) != np.sign(truth[clear])).mean())


def exact(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
    return np.asarray(igl.signed_distance(points, np.array(mesh.vertices), np.array(mesh.faces), kind)[0])


def test_a_sphere_s_distance_is_that_of_the_formula():
    fine = trimesh.creation.icosphere(6, 0.45)
    points = scattered(0)
    found = signed_distance(fine.vertices, fine.faces, points)
    assert np.abs(found - (np.linalg.norm(points, axis=1) - 0.45)).max() < 1e-4


DEFECTS = ["whole", "hole", "missing", "flipped", "inwards", "soup", "inner", "inner_inwards", "overlap", "all"]


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("body", [SPHERE, TORUS], ids=["sphere", "torus"])
def test_signs_survive_the_usual_defects(body, defect):
    rng = np.random.default_rng(5)
    points = scattered(1, 4000, body.vertices)
    vertices, faces, truth = np.array(body.vertices), np.array(body.faces), exact(body, points)
    if defect in {"hole", "all"}:
        away = np.linalg.norm(vertices[faces].mean(1) - vertices[faces[0]].mean(0), axis=1)
        faces = faces[np.argsort(away)[len(faces) // 50 :]]
    if defect in {"missing", "all"}:
        faces = faces[rng.random(len(faces)) > 0.05]
    if defect in {"flipped", "all"}:
        faces = np.where(rng.random((len(faces), 1)) < 0.2, faces[:, ::-1], faces)
    if defect == "inwards":
        faces = faces[:, ::-1]
    if defect.startswith("inner"):
        inner = body.copy()
        inner.vertices = inner.vertices - 0.04 * inner.vertex_normals
        inside = inner.faces[:, ::-1] if defect == "inner_inwards" else inner.faces
        faces = np.concatenate([faces, inside + len(vertices)])
        vertices = np.concatenate([vertices, inner.vertices])
    if defect == "overlap":
        beside = body.copy()
        beside.apply_translation((0.1, 0.05, 0.02))
        truth = np.minimum(truth, exact(beside, points))
        vertices, faces = (
            np.concatenate([vertices, beside.vertices]),
            np.concatenate([faces, beside.faces + len(vertices)]),
        )
    if defect in {"soup", "all"}:
        vertices = vertices[faces[rng.permutation(len(faces))]].reshape(-1, 3)
        faces = np.arange(len(vertices)).reshape(-1, 3)
    found = signed_distance(vertices, faces, points)
    assert wrong(found, truth) <= (0.005 if defect in {"hole", "all", "missing"} else 0.0)
    if defect in {"whole", "flipped", "inwards", "soup"}:
        assert np.abs(found - truth).max() < 1e-9


def test_an_open_hemisphere_is_inside_only_well_under_its_dome():
    dome = SPHERE.submesh([np.flatnonzero(SPHERE.triangles_center[:, 1] > 0)], append=True)
    points = scattered(2, 4000)
    found = signed_distance(dome.vertices, dome.faces, points)
    assert (found[points[:, 1] < dome.vertices[:, 1].min()] > 0).all()
    assert (found[np.linalg.norm(points, axis=1) > 0.46] > 0).all()
    under = (np.linalg.norm(points, axis=1) < 0.44) & (points[:, 1] > 0.05)
    assert (found[under] < 0).mean() > 0.98


def test_a_flat_sheet_has_no_inside():
    corners = np.array([[-0.45, 0, -0.3], [0.45, 0.1, -0.3], [0.45, 0.1, 0.3], [-0.45, 0, 0.3]])
    assert (signed_distance(corners, np.array([[0, 1, 2], [0, 2, 3]]), scattered(4, 4000, corners)) > 0).all()


@given(st.integers(0, 10_000), st.floats(-4, 4), st.floats(-5, 5))
def test_moving_turning_scaling_and_reordering_change_nothing(seed, exponent, shift):
    rng = np.random.default_rng(seed)
    body = trimesh.creation.torus(0.3, 0.1, 24, 12) + trimesh.creation.box((0.3, 0.4, 0.2))
    points = scattered(seed, 200)
    before = signed_distance(body.vertices, body.faces, points)
    turn = Rotation.random(rng=rng).as_matrix() if seed % 2 else np.eye(3)
    scale, move = 10.0**exponent, np.full(3, shift)
    order, relabel = rng.permutation(len(body.faces)), rng.permutation(len(body.vertices))
    vertices = (body.vertices[np.argsort(relabel)] @ turn.T + move) * scale
    after = signed_distance(vertices, relabel[body.faces][order], (points @ turn.T + move) * scale) / scale
    clear = np.abs(before) > 1e-5
    assert np.abs(np.abs(after) - np.abs(before)).max() < 2e-6
    assert (np.sign(after[clear]) == np.sign(before[clear])).all()


def test_cleaning_says_where_faces_and_vertices_came_from():
    rng = np.random.default_rng(0)
    faces = np.where(rng.random((len(TORUS.faces), 1)) < 0.3, TORUS.faces[:, ::-1], TORUS.faces)
    loose = TORUS.vertices[faces].reshape(-1, 3) * 7 + (1, 2, 3)
    given_faces = np.concatenate([np.arange(len(loose)).reshape(-1, 3), [[0, 1, 2], [4, 4, 5]]])
    mesh = clean(loose, given_faces, rng.integers(0, 256, (len(given_faces), 3, 3)).astype(np.uint8))
    assert mesh.source_face.dtype == mesh.source_vertex.dtype == np.int32 and mesh.turned.dtype == bool
    origin = given_faces[mesh.source_face]
    origin = np.where(mesh.turned[:, None], origin[:, ::-1], origin)
    assert np.abs(loose[origin] * mesh.scale + mesh.offset - mesh.vertices[mesh.faces]).max() < 1e-5
    assert np.abs(loose[mesh.source_vertex] * mesh.scale + mesh.offset - mesh.vertices).max() < 1e-12
    assert mesh.turned.sum() == mesh.repairs["flipped_faces"] and len(mesh.source_vertex) == len(mesh.vertices)


@given(st.integers(0, 10_000), st.integers(1, 900), st.floats(0.001, 0.3))
def test_distances_of_blocks_are_those_of_their_points(seed, count, half):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.4, 0.4, (count, 1, 3)) + rng.normal(size=(count, 3, 3)) * rng.choice([0.01, 0.3])
    tree = TriangleTree(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))
    centres = rng.uniform(-0.5, 0.5, (7, 3))
    offsets = rng.uniform(-half, half, (9, 3))
    found = tree.block_distances(centres, tree.closest(centres)[0], half * 3**0.5, offsets)
    exact = tree.closest((centres[:, None] + offsets).reshape(-1, 3))[0].reshape(7, 9)
    assert np.abs(found - exact).max() < 1e-9
