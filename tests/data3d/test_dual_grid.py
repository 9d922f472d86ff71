"""Encoding as a dual grid and decoding again keeps surfaces in place, open ones open, and sharp edges sharp."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from maquette.errors import MaquetteError
from maquette_data3d.geometry.dual_grid import DualGrid, dual_grid, dual_grid_mesh
from maquette_data3d.geometry.sampling import sharp_samples, surface_samples
from maquette_data3d.geometry.voxels import sparse_voxels
from maquette_kernels.distance.tree import TriangleTree

SPHERE = trimesh.creation.icosphere(4, 0.4)
DOME = SPHERE.submesh([np.flatnonzero(SPHERE.triangles_center[:, 1] > 0)], append=True)
BODIES = {
    "sphere": SPHERE,
    "dome": DOME,
    "box": trimesh.creation.box((0.75, 0.5, 0.25)),
    "torus": trimesh.creation.torus(0.3, 0.12, 48, 24),
    "plate": trimesh.creation.box((0.8, 0.002, 0.6)),
    "crossed": trimesh.creation.box((0.8, 0.3, 0.3)) + trimesh.creation.box((0.3, 0.8, 0.2)),
}


def apart(mesh: trimesh.Trimesh, vertices: np.ndarray, faces: np.ndarray) -> tuple[float, float]:
    """Largest distance from the mesh, its edges included, to the decoded surface, and the other way round."""
    rng = np.random.default_rng(0)
    ours = surface_samples(mesh.vertices, mesh.faces, 4000, rng).points
    ours = np.concatenate([ours, sharp_samples(mesh.vertices, mesh.faces, 1000, rng).points])
    theirs = surface_samples(vertices, faces, 4000, rng).points
    there = TriangleTree(vertices, faces).closest(ours)[0].max()
    return there, TriangleTree(mesh.vertices, mesh.faces).closest(theirs)[0].max()


def uses(faces: np.ndarray) -> np.ndarray:
    """How many faces each edge has."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1]


@pytest.mark.parametrize("resolution", [32, 64, 100])
@pytest.mark.parametrize("name", list(BODIES))
def test_decoding_stays_within_a_voxel(name, resolution):
    grid = dual_grid(BODIES[name].vertices, BODIES[name].faces, resolution)
    there, back = apart(BODIES[name], *dual_grid_mesh(grid))
    assert max(there, back) < 1 / resolution


@given(st.integers(0, 10_000), st.sampled_from([16, 31, 48]), st.sampled_from(["sphere", "dome", "box", "torus"]))
def test_decoding_stays_within_a_voxel_wherever_it_lies(seed, resolution, name):
    rng = np.random.default_rng(seed)
    made = BODIES[name].copy()
    made.vertices = made.vertices @ Rotation.random(rng=rng).as_matrix().T * 0.9 + rng.uniform(-0.05, 0.05, 3)
    grid = dual_grid(made.vertices, made.faces, resolution)
    vertices, faces = dual_grid_mesh(grid)
    assert max(apart(made, vertices, faces)) < 1.2 / resolution
    assert len(faces) == 2 * grid.edges.sum()


@pytest.mark.parametrize("name", ["sphere", "box", "torus"])
def test_closed_stays_closed_and_outward(name):
    solid = trimesh.Trimesh(*dual_grid_mesh(dual_grid(BODIES[name].vertices, BODIES[name].faces, 64)), process=False)
    assert solid.is_watertight and solid.is_winding_consistent
    assert abs(solid.volume / BODIES[name].volume - 1) < 0.005


def test_open_stays_open():
    vertices, faces = dual_grid_mesh(dual_grid(DOME.vertices, DOME.faces, 64))
    assert (uses(faces) == 1).sum() > 100 and uses(faces).max() == 2
    rim = vertices[faces][:, :, 1].min()
    assert abs(rim - DOME.vertices[:, 1].min()) < 1 / 64
    normals = trimesh.Trimesh(vertices, faces, process=False).face_normals
    assert ((normals * vertices[faces].mean(1)).sum(1) > 0).mean() > 0.99


def test_inner_shells_and_sheets_are_kept():
    inner = trimesh.creation.icosphere(3, 0.2)
    both = SPHERE + inner
    vertices, _ = dual_grid_mesh(dual_grid(both.vertices, both.faces, 48))
    assert (np.linalg.norm(vertices, axis=1) < 0.25).mean() > 0.1
    sheet = np.array([[-0.4, 0.01, -0.3], [0.4, 0.02, -0.3], [0.4, 0.03, 0.3], [-0.4, 0.02, 0.3]])
    vertices, faces = dual_grid_mesh(dual_grid(sheet, np.array([[0, 2, 1], [0, 3, 2]]), 48))
    area = trimesh.Trimesh(vertices, faces, process=False).area
    assert abs(area / 0.48 - 1) < 0.05


def test_edges_and_corners_of_a_box_are_kept_sharp():
    for size in ((0.75, 0.5, 0.25), (0.713, 0.517, 0.291)):  # faces in the grid's planes, and between them
        made = trimesh.creation.box(size)
        vertices, faces = dual_grid_mesh(dual_grid(made.vertices, made.faces, 64))
        assert max(apart(made, vertices, faces)) < 0.1 / 64
        assert TriangleTree(vertices, faces).closest(made.vertices)[0].max() < 0.1 / 64


def test_the_grid_s_arrays():
    grid = dual_grid(SPHERE.vertices, SPHERE.faces, 32)
    assert isinstance(grid, DualGrid) and grid.resolution == 32
    assert grid.voxels.dtype == np.int32 and grid.points.dtype == np.float32
    assert grid.edges.dtype == grid.signs.dtype == bool and grid.edges.shape == grid.signs.shape == grid.voxels.shape
    assert (grid.points >= 0).all() and (grid.points <= 1).all() and not (grid.signs & ~grid.edges).any()
    assert np.array_equal(grid.voxels, sparse_voxels(SPHERE.vertices + 1e-6 / 32, SPHERE.faces, 32))
    start = np.linalg.norm(grid.voxels / 32 - 0.5, axis=1)[:, None]
    end = np.linalg.norm((grid.voxels / 32 - 0.5)[:, None] + np.eye(3) / 32, axis=2)
    clear = (np.abs(start - 0.399) > 0.001) & (np.abs(end - 0.399) > 0.001)  # the flat faces lie between .398 and .4
    assert (grid.edges == ((start < 0.399) != (end < 0.399)))[clear].mean() > 0.998
    assert (grid.signs == (start < 0.399))[clear & grid.edges].mean() > 0.998


def test_nothing_gives_nothing_and_wrong_resolutions_are_refused():
    grid = dual_grid(SPHERE.vertices, np.zeros((0, 3), int), 16)
    vertices, faces = dual_grid_mesh(grid)
    assert len(grid.voxels) == len(vertices) == len(faces) == 0
    with pytest.raises(MaquetteError, match="resolution is 0"):
        dual_grid(SPHERE.vertices, SPHERE.faces, 0)
