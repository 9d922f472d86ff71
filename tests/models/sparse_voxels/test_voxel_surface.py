"""Meshes as voxels and back: scale, open surfaces, hidden surfaces, seams, colours, mirror images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.metrics.mesh_topology import is_closed
from maquette_models.sparse_voxels.codec_evaluation import likeness
from maquette_models.sparse_voxels.voxel_surface import SurfacePaint, VoxelSurface, borders, encode_mesh, welded

decode = plugins.build("decoders", {"name": "dual_grid"})


def open_edges(mesh: Mesh) -> int:
    return borders(welded(mesh)[1].numpy())


@pytest.mark.parametrize("resolution", [24, 64])
def test_a_sphere_keeps_its_radius_and_stays_closed(meshes: SimpleNamespace, resolution: int) -> None:
    mesh = decode(encode_mesh(meshes.sphere(0.35, steps=48), resolution))
    assert abs(np.linalg.norm(mesh.vertices, axis=1).mean() / 0.35 - 1) < 0.003
    assert is_closed(mesh)
    corners = mesh.vertices[mesh.faces]
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.97 < volume / (4 / 3 * np.pi * 0.35**3) < 1.01, "outwards, and as large"


def test_an_open_sheet_stays_open(meshes: SimpleNamespace) -> None:
    sheet = meshes.sheet()
    back = decode(encode_mesh(sheet, 64))
    alike = likeness(back, sheet)
    assert alike.f_score[0.005] > 0.99 and alike.normals > 0.99
    assert open_edges(back) > 100, "a border all around"
    assert signed_area(back)[1] > 0.6 * 0.8**2, "one side alone, which looks up"


def test_a_surface_inside_another_survives(meshes: SimpleNamespace) -> None:
    both = meshes.joined(meshes.sphere(0.4), meshes.sphere(0.2))
    back = decode(encode_mesh(both, 48))
    radii = np.linalg.norm(back.vertices, axis=1)
    assert ((radii > 0.38) | (radii < 0.22)).all()
    assert 0.1 < (radii < 0.22).mean() < 0.4


def test_seams_between_colors_are_no_borders(meshes: SimpleNamespace) -> None:
    """The sheet has a vertex a corner: as given every edge is a border, welded only the outer ones are."""
    sheet = meshes.sheet(cells=8)
    assert borders(sheet.faces.astype(np.int64)) == 3 * len(sheet.faces)
    assert open_edges(sheet) == 4 * 8


def test_colors_are_where_they_were(meshes: SimpleNamespace) -> None:
    sheet = meshes.sheet()
    back = decode(encode_mesh(sheet, 64))
    away = np.abs(back.vertices[:, 0]) > 0.02
    red = back.vertices[:, 0] < 0
    expected = np.where(red[:, None], [200, 20, 20, 255], [20, 20, 200, 255])
    assert (np.abs(back.colors[away].astype(int) - expected[away]) <= 1).all()


def test_paint_is_that_of_the_nearest_point(meshes: SimpleNamespace) -> None:
    points = torch.tensor([[0.0, 0.4, 0.0], [0.0, -0.4, 0.0]])
    paint = SurfacePaint(points, torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), torch.tensor([[1.0, 0.2], [0.0, 0.9]]))
    surface = encode_mesh(meshes.sphere(0.4), 32, paint)
    upper = surface.places[:, 1] > 0.05
    assert (surface.color[upper] == torch.tensor([1.0, 0, 0])).all()
    assert (surface.material[surface.places[:, 1] < -0.05] == torch.tensor([0.0, 0.9])).all()


def same(one: VoxelSurface, other: VoxelSurface) -> bool:
    pairs = ((one.voxels, other.voxels), (one.edges, other.edges), (one.signs & one.edges, other.signs & other.edges))
    return all(torch.equal(a, b) for a, b in pairs) and torch.allclose(one.points, other.points, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), resolution=st.integers(8, 40))
def test_mirrored_twice_is_itself_and_once_is_the_mirror_image(seed: int, resolution: int) -> None:
    """On triangles anywhere."""
    rng = np.random.default_rng(seed)
    triangles = rng.uniform(-0.45, 0.45, (6, 3, 3)).astype(np.float32)
    surface = encode_mesh(Mesh(triangles.reshape(-1, 3), np.arange(18, dtype=np.int32).reshape(-1, 3)), resolution)
    image = surface.mirrored()
    assert same(image.mirrored(), surface)
    mesh, reflected = decode(surface), decode(image)
    assert len(mesh.faces) == len(reflected.faces)
    flipped = mesh.vertices * np.array([-1, 1, 1], np.float32)
    assert np.allclose(np.sort(flipped, axis=0), np.sort(reflected.vertices, axis=0), atol=1e-6)
    areas = [signed_area(Mesh(flipped, mesh.faces[:, ::-1])), signed_area(reflected)]
    assert np.allclose(*areas, atol=1e-4), "faces look the mirrored way"


def signed_area(mesh: Mesh) -> np.ndarray:
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a).sum(axis=0)


def test_what_lies_outside_the_cube_is_said(meshes: SimpleNamespace) -> None:
    far = meshes.sphere(0.2, center=(3, 0, 0))
    with pytest.raises(MaquetteError, match="no surface in the unit cube"):
        encode_mesh(far, 16)


def test_voxels_without_a_surface_are_said(meshes: SimpleNamespace) -> None:
    surface = encode_mesh(meshes.sphere(0.3), 16)
    none = torch.zeros_like(surface.edges)
    empty = VoxelSurface(surface.voxels, surface.points, none, none, surface.color, surface.material, 16)
    with pytest.raises(MaquetteError, match="no surface"):
        decode(empty)
    assert decode.mesh_or_none(empty) is None
