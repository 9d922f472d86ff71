"""Meshes with known faults: open, not manifold, through themselves, with handles and slivers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maquette.types import Mesh
from maquette_models.evaluation.mesh_quality import mesh_quality, slivers
from maquette_models.metrics.mesh_topology import is_closed, topology
from maquette_models.metrics.self_intersections import intersecting_faces


def mesh(*parts: trimesh.Trimesh) -> Mesh:
    whole = trimesh.util.concatenate(parts)
    return Mesh(whole.vertices, whole.faces)


def box(*moved: float) -> trimesh.Trimesh:
    return trimesh.creation.box((0.4, 0.4, 0.4)).apply_translation(moved or (0, 0, 0))


def turned(part: Mesh, seed: int = 0) -> Mesh:
    rotation = trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))[:3, :3]
    return Mesh(part.vertices @ rotation.T, part.faces)


def test_topology_of_known_shapes() -> None:
    whole = topology(mesh(box()))
    assert (whole.closed, whole.manifold, whole.components, whole.genus, whole.border_edges) == (True, True, 1, 0, 0)
    assert topology(mesh(trimesh.creation.torus(0.3, 0.1))).genus == 1
    assert topology(mesh(trimesh.creation.torus(0.3, 0.1), box(2, 0, 0))).components == 2
    opened = mesh(box())
    opened = Mesh(opened.vertices, opened.faces[1:])
    assert (topology(opened).closed, topology(opened).manifold, topology(opened).genus) == (False, True, None)
    assert topology(opened).border_edges == 3
    fins = Mesh([[0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [-1, 0, 0]], [[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    assert not topology(fins).manifold
    at_a_corner = topology(mesh(box(), box(0.4, 0.4, 0.4)))
    assert at_a_corner.closed and not at_a_corner.manifold and at_a_corner.components == 1


def test_seams_are_no_borders_but_flipped_faces_are_no_surface() -> None:
    seamed = mesh(box()).vertices[mesh(box()).faces].reshape(-1, 3)
    apart = Mesh(seamed, np.arange(36).reshape(-1, 3))
    assert topology(apart).closed and not is_closed(apart)
    flipped = mesh(box())
    flipped = Mesh(flipped.vertices, np.concatenate([flipped.faces[:1, ::-1], flipped.faces[1:]]))
    assert not topology(flipped).closed


@pytest.mark.parametrize("seed", range(3))
def test_clean_meshes_do_not_intersect_themselves(seed: int) -> None:
    for part in (box(), trimesh.creation.icosphere(3, 0.4), trimesh.creation.torus(0.3, 0.1)):
        assert not intersecting_faces(turned(mesh(part), seed)).any()
    assert not intersecting_faces(mesh(box(), box(0.5, 0, 0))).any()
    assert not intersecting_faces(mesh(box(), box(0.4, 0.4, 0.4))).any(), "they meet in a corner"


def test_faces_through_each_other_are_found() -> None:
    found = intersecting_faces(turned(mesh(box(), box(0.2, 0.2, 0.2))))
    assert found[:12].any() and found[12:].any() and not found.all()
    needle = trimesh.Trimesh([[0, -1, 0.01], [0, 1, 0.01], [0.001, 0, 1]], [[0, 1, 2]])
    assert intersecting_faces(mesh(box(), needle))[12]
    assert intersecting_faces(mesh(box(), box(0.4, 0.1, 0.1))).sum() == 4, "two sides overlap in one plane"
    twice = mesh(box(), box())
    assert intersecting_faces(twice).all(), "each face lies on its copy"


def test_folds_and_faces_that_share_a_vertex() -> None:
    folded = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.5, 0]], [[0, 1, 2], [1, 0, 3]])
    assert intersecting_faces(folded).all()
    hinge = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, -0.5, 0]], [[0, 1, 2], [1, 0, 3]])
    assert not intersecting_faces(hinge).any()
    through = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.3, 0.3, 1], [0.3, 0.3, -1]], [[0, 1, 2], [0, 3, 4]])
    assert intersecting_faces(through).all()
    beside = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.3, 0.3, 1], [-0.3, 0.3, -1]], [[0, 1, 2], [0, 3, 4]])
    assert not intersecting_faces(beside).any()


def pierces(a: NDArray[np.float64], b: NDArray[np.float64], edges: list[tuple[int, int]]) -> bool:
    """Whether one of some edges of triangle a goes through triangle b."""
    normal = np.cross(b[1] - b[0], b[2] - b[0])
    for i, j in edges:
        above, below = (a[i] - b[0]) @ normal, (a[j] - b[0]) @ normal
        if above * below < 0:
            point = a[i] + (a[j] - a[i]) * above / (above - below)
            if all(np.cross(b[(k + 1) % 3] - b[k], point - b[k]) @ normal > 0 for k in range(3)):
                return True
    return False


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.floats(0.02, 0.5))
def test_agrees_with_all_pairs_of_edges_and_faces(seed: int, shared: bool, size: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.normal(size=(24, 1, 3)) * 0.3 + rng.normal(size=(24, 3, 3)) * size
    vertices, faces = corners.reshape(-1, 3).astype(np.float32), np.arange(72).reshape(-1, 3)
    if shared:
        faces = np.array([rng.choice(16, 3, replace=False) for _ in range(24)])
        vertices = vertices[:16]
    expected = np.zeros(24, bool)
    for i, j in itertools.combinations(range(24), 2):
        common = set(faces[i]) & set(faces[j])
        if len(common) > 1:
            expected[[i, j]] |= len(common) == 3
            continue
        # An edge at a common corner begins in the other face's plane: only the far edges tell.
        own, other = (
            [(a, b) for a, b in ((0, 1), (1, 2), (2, 0)) if not {f[a], f[b]} & common] for f in (faces[i], faces[j])
        )
        a, b = (vertices[f].astype(np.float64) for f in (faces[i], faces[j]))
        expected[[i, j]] |= pierces(a, b, own) or pierces(b, a, other)
    assert np.array_equal(intersecting_faces(Mesh(vertices, faces)), expected)


def test_slivers() -> None:
    assert slivers(mesh(box())).sum() == 0
    thin = Mesh([[0, 0, 0], [1, 0, 0], [0.5, 0.009, 0], [0.5, 0.011, 0]], [[0, 1, 2], [0, 1, 3]])
    assert slivers(thin).tolist() == [True, False]


def test_figures_stand_beside_those_of_others() -> None:
    figures = mesh_quality([mesh(box()), mesh(box(), box(0.2, 0.2, 0.2))], [mesh(box())], "real")
    clean = figures["free_of_self_intersections_share"]
    assert clean.value == 0.5 and clean.n == 2 and clean.beside == {"real": 1.0}
    assert figures["components"].value == 1.5 and figures["watertight_share"].value == 1
    assert figures["within_unit_box_share"].value == 1
    assert mesh_quality([], [mesh(box())], "real") == {}
