"""Whatever goes in, what comes out is closed, faces outwards and is where the mesh was."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from maquette_data3d.geometry.repair import clean
from maquette_data3d.geometry.sampling import surface_samples
from maquette_data3d.geometry.watertight import filled, watertight
from maquette_kernels.distance.tree import TriangleTree

R = 64


def closed(made: trimesh.Trimesh, resolution: int = R) -> tuple[trimesh.Trimesh, trimesh.Trimesh]:
    """The closed surface, and the mesh as it was placed."""
    colors = np.zeros((len(made.faces), 3, 3), np.uint8)
    mesh = clean(np.array(made.vertices), np.array(made.faces), colors)
    found = trimesh.Trimesh(*watertight(mesh, resolution), process=False)
    assert found.is_watertight and found.is_winding_consistent and found.volume > 0
    return found, trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def farthest(mesh: trimesh.Trimesh, other: trimesh.Trimesh) -> float:
    points = surface_samples(mesh.vertices, mesh.faces, 4000, np.random.default_rng(0)).points
    return TriangleTree(other.vertices, other.faces).closest(points)[0].max()


SOLIDS = [trimesh.creation.icosphere(4), trimesh.creation.torus(1, 0.3), trimesh.creation.box()]


@pytest.mark.parametrize("made", SOLIDS, ids=["sphere", "torus", "box"])
def test_solids_keep_their_volume_and_place(made):
    found, placed = closed(made)
    assert abs(found.volume / placed.volume - 1) < 0.01
    assert farthest(placed, found) < 1 / R and farthest(found, placed) < 1 / R


@pytest.mark.parametrize("inwards", [False, True])
def test_inner_shells_are_dropped(inwards):
    inner = trimesh.creation.icosphere(3, 0.6)
    if inwards:
        inner.invert()
    found, _ = closed(trimesh.creation.icosphere(4) + inner)
    assert np.linalg.norm(found.vertices, axis=1).min() > 0.44
    assert abs(found.volume / (4 / 3 * np.pi * 0.45**3) - 1) < 0.02


def test_open_and_thin_ones_become_shells():
    dome = trimesh.creation.icosphere(4)
    dome = dome.submesh([np.flatnonzero(dome.triangles_center[:, 1] > 0)], append=True)
    for made in (dome, trimesh.creation.box((1, 0.001, 1))):
        found, placed = closed(made)
        assert farthest(found, placed) < 1.5 / R and farthest(placed, found) < 1.5 / R
        # One sheet is as thick as the two half shells, and not more.
        area = placed.area if made is dome else placed.area / 2
        assert 1.2 < found.volume / area * R < 1.8


def test_thin_rods_beside_a_solid_are_kept():
    rod = trimesh.creation.box((0.004, 1.2, 0.004))
    rod.apply_translation((0.8, 0, 0))
    found, placed = closed(trimesh.creation.box((1, 1, 1)) + rod)
    assert farthest(placed, found) < 1.5 / R and found.body_count == 2


def test_a_closed_shell_of_sheets_is_filled():
    grid = np.abs(np.linalg.norm(np.stack(np.meshgrid(*[np.linspace(-1, 1, 24)] * 3)), axis=0) - 0.7) - 0.12
    assert (grid[11:13, 11:13, 11:13] > 0).all()
    solid = filled(grid)
    assert (solid[11:13, 11:13, 11:13] < 0).all() and np.array_equal(solid[:3], grid[:3])
    grid[:, 11:13, 11:13] = 0.1  # a channel to the outside
    assert np.array_equal(filled(grid), grid)


@given(st.integers(0, 10_000))
def test_any_soup_gives_something_closed(seed):
    rng = np.random.default_rng(seed)
    corners = rng.normal(size=(12, 1, 3)) + rng.normal(size=(12, 3, 3)) * 10.0 ** rng.uniform(-2, 0.5, (12, 1, 1))
    made = trimesh.Trimesh(corners.reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False)
    found, placed = closed(made, 32)
    assert farthest(placed, found) < 2 / 32
