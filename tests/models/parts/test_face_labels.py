"""Votes, smoothing over touching faces, and pieces of a kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.types import Mesh
from maquette_models.parts.face_labels import adjacency, creases, face_votes, smoothed
from maquette_models.parts.instances import instances, named
from tests.models.parts import toy_parts


def test_faces_that_share_an_edge_touch_also_across_doubled_vertices():
    vertices, faces = toy_parts.box((0, 0, 0), (0.3, 0.3, 0.3), cells=3)
    near = adjacency(Mesh(vertices, faces))
    assert len(near.pairs) == 3 * len(faces) // 2, "a closed surface of triangles"
    apart = adjacency(Mesh(vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3)))
    assert {frozenset(p) for p in near.pairs.tolist()} == {frozenset(p) for p in apart.pairs.tolist()}


def test_creases_bend_inwards():
    """Two faces of a valley and of a ridge."""
    flat = [(0, 0, 0), (0, 0, 1), (1, 0, 0.5)]
    for height, sharp in ((1.0, 1.0), (-1.0, 0.0), (0.0, 0.0)):
        mesh = Mesh(np.array([*flat, (-1, height, 0.5)]), np.array([[0, 1, 2], [1, 0, 3]]))
        assert creases(mesh, np.array([[0, 1]]))[0] == pytest.approx(sharp * min(1, 45 / 60))


def test_votes_are_means():
    likelihoods = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    votes = face_votes(likelihoods, np.array([0, 0, 1]), 2)
    assert np.allclose(np.exp(votes[0]), [np.sqrt(0.45), np.sqrt(0.05)]) and np.allclose(np.exp(votes[1]), [0.2, 0.8])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_smoothing_heals_stray_votes_and_keeps_whole_sides(seed):
    """A box whose upper half is one part: a tenth of its faces votes wrongly."""
    vertices, faces = toy_parts.box((0, 0, 0), (0.3, 0.3, 0.3), cells=8)
    mesh = Mesh(vertices, faces)
    truth = (mesh.vertices[mesh.faces].mean(axis=1)[:, 1] > 0).astype(int)
    rng = np.random.default_rng(seed)
    seen = np.where(rng.random(len(truth)) < 0.1, 1 - truth, truth)
    votes = np.log(np.where(np.eye(2)[seen] > 0, 0.7, 0.3))
    plain, healed = (smoothed(votes, adjacency(mesh), strength) for strength in (0.0, 1.0))
    assert (plain == seen).all()
    assert (healed != truth).mean() < 0.3 * max((plain != truth).mean(), 0.02)


def test_pieces_are_named_by_their_side():
    mesh, part = toy_parts.table(3)
    labels = (part == 4).astype(np.int64)
    found, names = instances(mesh, labels, ["post", "board"], adjacency(mesh))
    assert set(names) == {"board", *(f"{z} {x} post" for z in ("front", "back") for x in ("left", "right"))}
    middles = mesh.vertices[mesh.faces].mean(axis=1)
    for place, name in enumerate(names):
        own = middles[found == place].mean(axis=0)
        if name != "board":
            assert ("left" in name) == (own[0] > 0) and ("front" in name) == (own[2] > 0)
    assert len({tuple(np.unique(found[part == p])) for p in range(5)}) == 5


def test_crumbs_belong_to_the_nearest_piece():
    mesh, part = toy_parts.table(3)
    labels = (part == 4).astype(np.int64)
    labels[np.flatnonzero(part == 4)[0]] = 0  # one stray face of the board
    found, names = instances(mesh, labels, ["post", "board"], adjacency(mesh))
    assert len(names) == 5 and len(found) == len(labels)


@given(st.integers(1, 9), st.integers(0, 1000))
def test_names_are_unique(count, seed):
    centres = np.random.default_rng(seed).uniform(-0.4, 0.4, (count, 3))
    names = named("leg", centres)
    assert len(set(names)) == count and all("leg" in name for name in names)
