"""Skeletons come back from their tokens, whatever is written is one tree, and files' rigs become bodies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_models.rigging.file_rigs import FileRig, body_of
from maquette_models.rigging.joint_tokeniser import JointTokeniser
from maquette_models.rigging.joint_vocabulary import END
from maquette_models.rigging.skeleton_dataset import grammar_of
from maquette_models.rigging.skeleton_tree import KINDS, ROOT, Tree, kind_of, mirrored_roles

ROLES = ["other", "pelvis", "chest", "head", "tail", "left hand", "right hand", "left foot", "left shin", "left thigh"]
REPEATED = {ROLES.index("other"), ROLES.index("tail")}


def random_tree(rng: np.random.Generator, count: int) -> Tree:
    """A tree in any order of children, whose roles come once where they must."""
    single = [role for role in range(len(ROLES)) if role not in REPEATED]
    roles = rng.permutation([*single, *rng.choice(list(REPEATED), 20)])[:count]
    parents = np.array([ROOT, *(int(rng.integers(joint)) for joint in range(1, count))])
    return Tree(roles, parents, rng.uniform(-0.5, 0.5, (count, 3)))


def is_one_tree(tree: Tree) -> bool:
    return (tree.parents == ROOT).sum() == 1 and (tree.parents < np.arange(len(tree))).all() and tree.parents[0] == ROOT


@given(seed=st.integers(0, 10**6), count=st.integers(2, 24), levels=st.sampled_from([2, 8, 256]))
@settings(max_examples=60, deadline=None)
def test_skeletons_come_back(seed: int, count: int, levels: int) -> None:
    tree = random_tree(np.random.default_rng(seed), count)
    tokeniser = JointTokeniser(grammar_of(levels, ROLES, 24))
    sequence = tokeniser.encode(tree, kind=1)
    back, kind = tokeniser.decode(sequence.tokens)
    wanted = tree.reordered(tree.depth_first())
    assert kind == 1 and np.array_equal(back.roles, wanted.roles) and np.array_equal(back.parents, wanted.parents)
    off = np.abs(back.positions - wanted.positions).max(axis=1)
    assert off.max() <= 1.5 / levels + 1e-9, "half a cell, or one more to be apart from the parent"
    assert levels < 256 or (off <= 0.5 / levels + 1e-9).mean() > 0.9
    assert ((sequence.near[:, 0] <= sequence.tokens) & (sequence.tokens < sequence.near[:, 1])).all()


@given(seed=st.integers(0, 10**6), joints=st.integers(2, 9), levels=st.sampled_from([2, 3, 16]), eager=st.booleans())
@settings(max_examples=80, deadline=None)
def test_whatever_is_chosen_is_one_tree(seed: int, joints: int, levels: int, eager: bool) -> None:
    rng, grammar = np.random.default_rng(seed), grammar_of(levels, ROLES, joints)
    writing, tokens = grammar.start(), 0
    while not writing.finished:
        allowed = np.flatnonzero(writing.allowed())
        assert len(allowed), "no dead end"
        longer = allowed[allowed != END] if eager and len(allowed) > 1 else allowed
        writing.accept(int(rng.choice(longer)))
        tokens += 1
    tree = writing.tree()
    assert tokens <= grammar.vocabulary.longest
    if writing.kind == 0:
        assert not len(tree)
        return
    assert 2 <= len(tree) <= joints and is_one_tree(tree)
    single = [role for role in tree.roles.tolist() if role not in REPEATED]
    assert len(set(single)) == len(single)
    assert (np.linalg.norm(tree.positions[1:] - tree.positions[tree.parents[1:]], axis=1) > 0).all()


def test_grammar_refuses_what_may_not_stand() -> None:
    grammar = grammar_of(4, ROLES, 4, kinds=(2,))
    writing = grammar.start()
    with pytest.raises(MaquetteError, match="cannot be number 0"):
        writing.accept(END)
    with pytest.raises(MaquetteError, match="breaks off"):
        writing.tree()
    writing.accept(1)
    assert np.flatnonzero(writing.allowed()).tolist() == [grammar.vocabulary.kind + 2], "the kind that was asked for"
    with pytest.raises(MaquetteError):
        JointTokeniser(grammar_of(4, ROLES, 4)).encode(random_tree(np.random.default_rng(0), 9), 1)


def rig(names: list[str], parents: list[int], held: list[float]) -> FileRig:
    """A rig whose joints each hold a share of the points on their own."""
    owner = np.repeat(np.arange(len(names)), [int(100 * share) for share in held])
    roles = np.array([ROLES.index(name) for name in names], np.int64)
    places = np.arange(3.0 * len(names)).reshape(-1, 3) / 100
    return FileRig(roles, np.array(parents, np.int64), places, owner[:, None], np.ones((len(owner), 1), np.float32))


def test_controls_go_and_feet_return_to_their_legs() -> None:
    names = ["other", "left foot", "pelvis", "left thigh", "left shin", "left foot"]
    tree, weights = body_of(rig(names, [-1, 0, 0, 2, 3, 1], [0, 0.2, 0.3, 0.2, 0.2, 0.1]), ROLES)
    assert [ROLES[role] for role in tree.roles] == ["pelvis", "left thigh", "left shin", "left foot"]
    assert tree.parents.tolist() == [-1, 0, 1, 2]
    assert np.allclose(weights.mean(axis=0), [0.3, 0.2, 0.2, 0.3]), "both joints of the foot are one"


def test_what_holds_nothing_is_no_body() -> None:
    nowhere = np.zeros((5, 4))
    tree, weights = body_of(replace(rig([], [], []), joints=nowhere.astype(np.int64), weights=nowhere), ROLES)
    assert not len(tree) and weights.shape == (5, 0)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 20))
@settings(max_examples=80, deadline=None)
def test_any_rig_becomes_one_tree_that_holds_as_much(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    parents = np.array([rng.integers(-1, joint) if joint else -1 for joint in range(count)])
    joints = rng.integers(count, size=(60, 4))
    weights = rng.dirichlet(np.ones(4), 60).astype(np.float32)
    found = FileRig(rng.integers(len(ROLES), size=count), parents, rng.uniform(-0.5, 0.5, (count, 3)), joints, weights)
    tree, held = body_of(found, ROLES)
    assert is_one_tree(tree) and np.array_equal(tree.depth_first(), np.arange(len(tree)))
    assert np.allclose(held.sum(axis=1), 1, atol=1e-5) and (held >= 0).all()
    single = [role for role in tree.roles.tolist() if role not in REPEATED]
    assert len(set(single)) == len(single)
    if len(tree) > 1:
        JointTokeniser(grammar_of(256, ROLES, 20)).encode(tree, 1)


def test_kinds_and_mirrors() -> None:
    assert kind_of(set()) == "nothing" and kind_of({"pelvis", "left upper arm"}) == "biped"
    assert kind_of({"left wing", "left thigh"}) == "bird" and kind_of({"right front thigh"}) == "quadruped"
    assert kind_of({"left fin"}) == "fish" and kind_of({"other"}) == "other" and len(KINDS) == 6
    names = ["pelvis", "left hand", "right hand"]
    assert mirrored_roles(names).tolist() == [0, 2, 1]


def test_near_misses_cost_less_than_far_ones() -> None:
    objective = plugins.build("objectives", {"name": "next_joint_token", "blur": 2.0})
    target = {
        "tokens": torch.tensor([[20, 3]]),
        "mask": torch.ones(1, 2, dtype=torch.bool),
        "near": torch.tensor([[[10, 30], [3, 4]]]),
    }

    def loss(first: int, second: int = 3) -> float:
        logits = 12 * torch.nn.functional.one_hot(torch.tensor([[first, second]]), 40).float()
        return float(objective.loss(logits, target)["loss"])

    assert loss(20) < loss(21) < loss(24) < loss(29) and loss(20) < loss(20, second=4)
    assert loss(29) == pytest.approx(loss(35), abs=1e-4), "another axis is as wrong as far away"
