"""Whatever is written within the grammar is a mesh, and ends within its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_models.mesh_tokens.grammar import Grammar, Writing, line
from maquette_models.mesh_tokens.quantise import canonical, encode_places, restore
from maquette_models.mesh_tokens.tokeniser import Tokeniser
from maquette_models.mesh_tokens.vocabulary import CLOSE, END, Vocabulary

vocabularies = st.builds(Vocabulary, blocks=st.integers(1, 3), offsets=st.integers(1, 3)).filter(lambda v: v.levels > 2)


def walk(grammar: Grammar, rng: np.random.Generator, favour: tuple[int, ...] = (), haste: float = 0.0) -> list[int]:
    """A random accepted sequence; `favour` is taken where it is allowed, with probability `haste`."""
    writing, tokens = grammar.start(), []
    while not writing.finished:
        choices = np.flatnonzero(writing.allowed())
        assert len(choices), f"dead end after {tokens}"
        wanted = [token for token in favour if token in choices]
        tokens.append(int(wanted[0] if wanted and rng.random() < haste else rng.choice(choices)))
        writing.accept(tokens[-1])
    return tokens


@given(vocabularies, st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 12), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_random_walks_are_meshes(vocabulary: Vocabulary, seed: int, least: int, more: int, room: int) -> None:
    """On grids so small that faces and lines meet everywhere, with bounds so tight that they bind."""
    bounds = Grammar(vocabulary, least, least + more, 2 + 2 + 2 * (least + 1) + room)
    tokens = walk(bounds, np.random.default_rng(seed), (CLOSE,), 0.3)
    assert len(tokens) <= bounds.max_tokens and tokens[-1] == END
    faces = Tokeniser(vocabulary).decode(tokens)
    assert least <= len(faces) <= least + more
    assert len(canonical(faces, vocabulary.levels)) == len(faces) == count_faces(bounds, tokens)
    mesh = restore(faces, vocabulary.levels)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    assert np.isfinite(corners).all() and np.abs(corners).max() < 0.5 and (areas > 1e-4).all()


def count_faces(grammar: Grammar, tokens: list[int]) -> int:
    """Faces as they were written, before doubles and faces without area would be left out."""
    writing = grammar.start()
    for token in tokens:
        writing.accept(token)
    return len(writing.faces)


def test_a_crowded_grid_never_runs_out() -> None:
    """As many faces as the smallest grids are said to hold."""
    for vocabulary in (Vocabulary(3, 1), Vocabulary(1, 3)):
        room = vocabulary.levels**3 - vocabulary.levels - 2
        for seed in range(20):
            tokens = walk(Grammar(vocabulary, min_faces=room), np.random.default_rng(seed))
            assert len(Tokeniser(vocabulary).decode(tokens)) == room


def test_bounds_leave_room_for_the_whole_fan() -> None:
    """One token less than the shortest end would need is refused; as many are enough."""
    vocabulary = Vocabulary(2, 2)
    with pytest.raises(MaquetteError, match="max_tokens"):
        Grammar(vocabulary, min_faces=4, max_tokens=13)
    assert len(walk(Grammar(vocabulary, min_faces=4, max_tokens=14), np.random.default_rng(0))) <= 14


@pytest.mark.parametrize("bounds", [(0, 5), (6, 5), (1, 61)])
def test_bounds_that_contradict_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(MaquetteError, match="must rise"):
        Grammar(Vocabulary(2, 2), *bounds)


def test_what_would_make_a_face_again_is_not_allowed() -> None:
    vocabulary = Vocabulary(2, 2)
    writing = Grammar(vocabulary).start()
    write_corners(writing, [(0, 0, 0), (1, 0, 0), (0, 1, 0)])
    assert writing.allowed()[END]
    write_corners(writing, [(0, 0, 0), (1, 0, 0)])
    block, offset = vocabulary.split(encode_places(np.array([0, 1, 0]), vocabulary.levels))
    allowed = writing.allowed()
    assert not allowed[END] and not allowed[CLOSE]
    assert int(block) == writing.block and not allowed[vocabulary.offset + int(offset)]
    assert allowed[vocabulary.offset :].sum() == vocabulary.offsets**3 - 3, "that corner and the two on the line"


def write_corners(writing: Writing, places: list[tuple[int, int, int]]) -> None:
    """Write the corners of a new fan."""
    vocabulary = writing.vocabulary
    blocks, offsets = vocabulary.split(encode_places(np.array(places), vocabulary.levels))
    if not writing.written:
        writing.accept(1)
    for number, (block, offset) in enumerate(zip(blocks.tolist(), offsets.tolist(), strict=True)):
        if not number:
            writing.accept(vocabulary.centre + block)
        elif block != writing.block:
            writing.accept(vocabulary.block + block)
        writing.accept(vocabulary.offset + offset)


def test_lines() -> None:
    code = encode_places(np.array([[0, 0, 0], [2, 2, 2], [1, 1, 1], [3, 3, 3]]), 4).tolist()
    assert line(code[0], code[1], 4) == set(code)
