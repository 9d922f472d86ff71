"""Sequences hold a mesh on its grid exactly, and the grammar accepts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.mesh_tokens.grammar import Grammar
from maquette_models.mesh_tokens.quantise import canonical, quantise, restore
from maquette_models.mesh_tokens.tokeniser import Tokeniser
from maquette_models.mesh_tokens.vocabulary import Vocabulary

SMALL = Vocabulary(blocks=2, offsets=2)
LARGE = Vocabulary(blocks=8, offsets=16)
BOX = np.array([[x, y, z] for x in (-0.4, 0.4) for y in (-0.4, 0.4) for z in (-0.4, 0.4)], np.float32)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
BOX_FACES = np.array([(a, *pair) for a, b, c, d in SIDES for pair in ((b, c), (c, d))], np.int32)


def soups(vocabulary: Vocabulary, most: int) -> st.SearchStrategy[np.ndarray]:
    """Any triangles: open, non-manifold, both ways round, in several pieces."""
    codes = st.integers(0, vocabulary.levels**3 - 1)
    return st.integers(1, most).flatmap(lambda count: arrays(np.int64, (count, 3), elements=codes))


def holds(vocabulary: Vocabulary, faces: np.ndarray) -> None:
    """The round trip gives the same faces, and what a model is told beside the tokens is what decoding finds."""
    tokeniser = Tokeniser(vocabulary)
    sequence = tokeniser.encode(faces)
    assert np.array_equal(tokeniser.decode(sequence.tokens), faces)
    writing = Grammar(vocabulary, max_faces=len(faces), max_tokens=len(sequence) + 64).start()
    for token, place, position in zip(sequence.tokens, sequence.places, sequence.positions, strict=True):
        writing.accept(int(token))
        assert writing.position == tuple(position)
        assert (writing.place or (vocabulary.levels,) * 3) == tuple(place)


@given(soups(SMALL, 40))
@settings(max_examples=150, deadline=None)
def test_any_triangles_come_back_on_a_small_grid(faces: np.ndarray) -> None:
    kept = canonical(faces, SMALL.levels)
    if len(kept):
        holds(SMALL, kept)


@given(soups(LARGE, 60))
@settings(max_examples=40, deadline=None)
def test_any_triangles_come_back(faces: np.ndarray) -> None:
    kept = canonical(faces, LARGE.levels)
    if len(kept):
        holds(LARGE, kept)


@given(st.integers(2, 9), st.integers(2, 9), st.lists(st.booleans(), min_size=128, max_size=128), st.randoms())
@settings(max_examples=40, deadline=None)
def test_any_part_of_a_surface_comes_back(rows: int, columns: int, kept: list[bool], random: object) -> None:
    """Open sheets with holes, some faces turned: fans end at borders and where neighbours disagree."""
    corner = np.arange((rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    kept = np.resize(kept, len(faces))
    turned = np.array([random.random() < 0.2 for _ in faces])  # type: ignore[attr-defined]
    faces[turned] = faces[turned][:, ::-1]
    heights = np.array([random.randrange(128) for _ in range(corner.size)])  # type: ignore[attr-defined]
    places = np.stack(np.divmod(np.arange(corner.size), columns + 1), -1) * 12
    codes = (heights * LARGE.levels + places[:, 1]) * LARGE.levels + places[:, 0]
    found = canonical(codes[faces[kept]], LARGE.levels)
    if len(found):
        holds(LARGE, found)


def test_a_box_takes_fewer_tokens_than_three_a_face() -> None:
    faces = quantise(Mesh(BOX, BOX_FACES), LARGE.levels)
    assert len(faces) == 12
    sequence = Tokeniser(LARGE).encode(faces)
    assert len(sequence) < 3 * len(faces)


def test_restored_vertices_are_within_half_a_cell() -> None:
    rng = np.random.default_rng(0)
    mesh = Mesh(rng.uniform(-0.5, 0.5, (60, 3)), np.arange(60).reshape(20, 3))
    back = restore(quantise(mesh, LARGE.levels), LARGE.levels)
    order = np.lexsort((mesh.vertices[:, 0], mesh.vertices[:, 2], mesh.vertices[:, 1]))
    assert np.abs(np.sort(back.vertices, 0) - np.sort(mesh.vertices[order], 0)).max() <= 0.5 / LARGE.levels + 1e-6
    assert np.array_equal(quantise(back, LARGE.levels), quantise(mesh, LARGE.levels))


def test_orientation_is_kept() -> None:
    one = quantise(Mesh(BOX, BOX_FACES), LARGE.levels)
    other = quantise(Mesh(BOX, BOX_FACES[:, ::-1]), LARGE.levels)
    assert not len(set(map(tuple, one)) & set(map(tuple, other)))


def test_faces_without_area_and_doubles_go() -> None:
    line = np.array([[0, 0, 0], [0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.2, 0, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 1, 3], [1, 3, 0], [2, 2, 3]], np.int32)
    assert len(quantise(Mesh(line, faces), 64)) == 1


def test_a_mesh_outside_the_cube_is_refused() -> None:
    with pytest.raises(MaquetteError, match="unit cube"):
        quantise(Mesh(BOX * 2, BOX_FACES), 64)


@pytest.mark.parametrize("broken", ["cut", "doubled", "unknown"])
def test_broken_sequences_are_refused(broken: str) -> None:
    tokens = Tokeniser(LARGE).encode(quantise(Mesh(BOX, BOX_FACES), LARGE.levels)).tokens.tolist()
    wrong = {"cut": tokens[:-1], "doubled": tokens[:3] + tokens[2:], "unknown": [*tokens[:-1], LARGE.size]}[broken]
    with pytest.raises(MaquetteError, match="sequence"):
        Tokeniser(LARGE).decode(wrong)


def real_meshes() -> Iterator[Mesh]:
    """Every tenth real model of at most 800 faces, in the unit cube."""
    from maquette_data3d import read_mesh

    for path in sorted(Path(os.environ["MAQUETTE_MODELS"]).rglob("*.glb"))[::10]:
        mesh = read_mesh(path)
        if len(mesh.faces) <= 800:
            yield mesh


@pytest.mark.skipif("MAQUETTE_MODELS" not in os.environ, reason="set MAQUETTE_MODELS to a folder of models")
def test_real_models_come_back_and_are_short() -> None:
    tokens = faces = 0
    for mesh in real_meshes():
        found = quantise(mesh, LARGE.levels)
        sequence = Tokeniser(LARGE).encode(found)
        assert np.array_equal(Tokeniser(LARGE).decode(sequence.tokens), found)
        tokens, faces = tokens + len(sequence), faces + len(found)
    assert tokens / (9 * faces) < 0.35
