"""Weights are valid whatever they come from, ways go through the body, and poses take points along."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csgraph

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_models.rigging.bones import bones_of, distances_to_bones
from maquette_models.rigging.pair_features import PAIR_FEATURES, bind
from maquette_models.rigging.posing import moved_joints, random_turns, skinned
from maquette_models.rigging.rig_errors import Bound, dense_weights, joint_to_joint, posed_difference, weight_difference
from maquette_models.rigging.skeleton_tree import Tree
from maquette_models.rigging.skin_weights_objective import posed, turns
from maquette_models.rigging.solid_geodesics import geodesics, solid_of
from maquette_models.rigging.valid_weights import ValidWeightsConfig, neighbours, valid_weights


def chain(*places: tuple[float, float, float]) -> Tree:
    """Joints one after the other."""
    count = len(places)
    return Tree(np.arange(count), np.arange(count) - 1, np.array(places, float))


def tube(start: tuple[float, float, float], end: tuple[float, float, float], count: int = 1500) -> tuple:
    """Points on a tube of radius .06 and their normals."""
    rng = np.random.default_rng(0)
    axis = np.subtract(end, start)
    side = np.cross(axis, [0.3, 0.5, 0.8])
    side /= np.linalg.norm(side)
    other = np.cross(axis / np.linalg.norm(axis), side)
    angle = rng.uniform(0, 2 * np.pi, (count, 1))
    normals = np.cos(angle) * side + np.sin(angle) * other
    return np.array(start) + rng.random((count, 1)) * axis + 0.06 * normals, normals


def horseshoe() -> tuple[np.ndarray, np.ndarray]:
    """Two legs that meet at the top."""
    corners = [(-0.15, -0.4, 0), (-0.15, 0.4, 0), (0.15, 0.4, 0), (0.15, -0.4, 0)]
    parts = [tube(*ends) for ends in itertools.pairwise(corners)]
    points, normals = (np.concatenate(values) for values in zip(*parts, strict=True))
    return points, normals


@given(
    seed=st.integers(0, 10**6),
    vertices=st.integers(1, 40),
    joints=st.integers(1, 9),
    influences=st.sampled_from([1, 2, 4, 8]),
    smoothing=st.integers(0, 3),
)
@settings(max_examples=120, deadline=None)
def test_any_weights_become_valid(seed: int, vertices: int, joints: int, influences: int, smoothing: int) -> None:
    rng = np.random.default_rng(seed)
    faces = rng.integers(vertices, size=(int(rng.integers(0, 60)), 3))
    weights = rng.random((vertices, joints)) ** 8 * (rng.random((vertices, joints)) < 0.7)
    weights[rng.random(vertices) < 0.2] = rng.choice([0.0, np.nan, -1.0, np.inf])
    edges = neighbours(faces, vertices)
    found, held = valid_weights(weights, edges, ValidWeightsConfig(influences, smoothing))
    assert found.shape == held.shape == (vertices, min(influences, joints))
    assert np.allclose(held.sum(axis=1), 1, atol=1e-5) and (held >= 0).all() and (np.diff(held) <= 1e-6).all()
    dense = dense_weights(found, held, joints)
    assert ((dense > 0).sum(axis=1) <= influences).all() and np.allclose(dense.sum(axis=1), 1, atol=1e-5)
    assert (found >= 0).all() and (found < joints).all()


def islands(dense: np.ndarray, edges) -> int:
    """The most regions that a joint has in one connected surface."""
    held = [np.flatnonzero(column > 0) for column in dense.T]
    return max(csgraph.connected_components(edges[rows][:, rows], directed=False)[0] for rows in held if len(rows))


@pytest.mark.parametrize("influences", [1, 4])
def test_a_lost_island_goes_and_smoothing_evens_out(influences: int) -> None:
    side = 12
    grid = np.arange(side * side).reshape(side, side)
    a, b, c, d = (x.ravel() for x in (grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]))
    edges = neighbours(np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]), side * side)
    rows = np.arange(side * side) // side
    weights = np.stack([rows < 6, rows >= 6, np.zeros(side * side)], axis=1).astype(float)
    weights[130] = [1, 0, 0]  # an island of the first joint in the second's half
    found, held = valid_weights(weights, edges, ValidWeightsConfig(influences, smoothing=2))
    dense = dense_weights(found, held, 3)
    assert islands(dense, edges) == 1 and dense[130, 1] == 1 and not dense[:, 2].any()
    if influences == 4:
        across = np.abs(np.diff(dense[:, 0].reshape(side, side), axis=0)).max()
        assert across < 0.6, "no jump from one vertex to the next"


def test_influences_out_of_range_are_refused() -> None:
    with pytest.raises(MaquetteError, match="influences 9"):
        ValidWeightsConfig(influences=9)


def test_ways_go_through_the_body() -> None:
    points, normals = horseshoe()
    solid = solid_of(points, normals)
    inside = solid.centres
    axis_filled = ((np.abs(np.abs(inside[:, 0]) - 0.15) < 0.02) & (np.abs(inside[:, 2]) < 0.02)).sum()
    assert axis_filled > 20, "tubes are full"
    assert not ((np.abs(inside[:, 0]) < 0.03) & (inside[:, 1] < 0.25)).any(), "the gap between the legs is empty"
    tree = chain((-0.15, -0.4, 0), (-0.15, 0.4, 0), (0.15, 0.4, 0), (0.15, -0.4, 0))
    ways = geodesics(solid, bones_of(tree))
    far = np.abs(inside - [0.15, -0.35, 0]).sum(axis=1).argmin()
    straight = distances_to_bones(inside, bones_of(tree)).distance
    assert straight[far, 0] < 0.35 and 0.7 < ways[far, 0] < 1.2, "up one leg to the bone of the other"
    assert ways[far, 2] < 0.06 and np.isfinite(ways).all()


def test_what_is_not_connected_is_farther_than_anything_that_is() -> None:
    one, other = tube((-0.3, -0.4, 0), (-0.3, 0.4, 0)), tube((0.3, -0.4, 0), (0.3, 0.4, 0))
    points, normals = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    tree = Tree(np.arange(2), np.array([-1, 0]), np.array([[-0.3, -0.4, 0], [-0.3, 0.4, 0]]))
    binding = bind(points, normals, tree)
    ways = binding.ways_of(points)
    assert np.isfinite(ways).all() and ways[1500:].min() > ways[:1500].max()
    assert binding.features(points[:7], normals[:7]).shape == (7, 2, PAIR_FEATURES)


def test_distances_to_bones() -> None:
    tree = Tree(np.arange(4), np.array([-1, 0, 1, 0]), np.array([[0, 0, 0], [0, 1, 0], [0, 2, 0], [1.0, 0, 0]]))
    found = distances_to_bones(np.array([[0.5, 0.0, 0.2], [0, 3.0, 0]]), bones_of(tree))
    to_tips = [np.sqrt(1.29), np.sqrt(4.29), np.sqrt(0.29)]
    assert np.allclose(found.distance, [[0.2, *to_tips], [2, 1, 1, np.sqrt(10)]])
    assert np.allclose(found.along[0, 0], 0.5), "on the bone to the side"


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_poses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = Tree(np.arange(5), np.array([-1, 0, 1, 1, 3]), rng.uniform(-0.5, 0.5, (5, 3)))
    points, weights = rng.uniform(-0.5, 0.5, (9, 3)), rng.dirichlet(np.ones(5), 9)
    unmoved = moved_joints(tree.positions, tree.parents, np.stack([np.eye(3)] * 5))
    still, _ = skinned(points, weights, tree.positions, *unmoved)
    assert np.allclose(still, points)
    turn = random_turns(rng, 5, 60)
    places, turned = moved_joints(tree.positions, tree.parents, turn)
    lengths = [np.linalg.norm((p[1:] - p[tree.parents[1:]]), axis=1) for p in (tree.positions, places)]
    assert np.allclose(*lengths), "bones keep their lengths"
    at_joints, _ = skinned(tree.positions, np.eye(5), tree.positions, places, turned)
    assert np.allclose(at_joints, places), "a joint's own point goes where the joint goes"
    batch = [torch.from_numpy(x)[None] for x in (tree.positions, tree.parents, turn)]
    found = posed(*batch)
    assert np.allclose(found[0][0], turned) and np.allclose(found[1][0], places)


def test_errors_are_zero_for_the_same_rig_and_grow() -> None:
    rng = np.random.default_rng(0)
    tree = chain((0, -0.4, 0), (0, 0, 0), (0, 0.4, 0))
    points, weights = rng.uniform(-0.5, 0.5, (50, 3)), rng.dirichlet(np.ones(3), 50)
    assert joint_to_joint(tree.positions, tree.positions) == 0 and weight_difference(weights, weights) == 0
    assert joint_to_joint(tree.positions, tree.positions + np.array([0.1, 0, 0])) == pytest.approx(0.1)
    wanted = Bound(tree, weights)
    errors = []
    for share in (0, 0.1, 0.5):
        other = Bound(tree, (1 - share) * weights + share * np.roll(weights, 1, axis=1))
        errors.append(posed_difference(points, wanted, other, np.random.default_rng(1)))
    assert errors[0] == pytest.approx(0, abs=1e-12) and 0 < errors[1] < errors[2]
    assert weight_difference(np.eye(3), np.roll(np.eye(3), 1, axis=1)) == 2


def test_turns_are_rotations() -> None:
    found = turns(torch.tensor([[0.0, 0.0, torch.pi / 2], [0.3, -1.0, 2.0]]))
    assert torch.allclose(found[0], torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), atol=1e-6)
    assert torch.allclose(found @ found.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5)


def test_padding_says_nothing_and_right_weights_cost_nothing() -> None:
    torch.manual_seed(0)
    model = plugins.build("architectures", {"name": "skin_transformer", "roles": ["other", "pelvis"]}).eval()
    batch = model.example_batch(2)
    batch |= {key: torch.rand_like(value) for key, value in batch.items() if value.is_floating_point()}
    before = model(batch).detach()
    assert torch.allclose(before.exp().sum(dim=-1), torch.ones(2, 64), atol=1e-5)
    padded = {key: value for key, value in batch.items()}
    for key in ("pairs", "weights"):
        padded[key] = torch.cat([batch[key], torch.full_like(batch[key][:, :, :2], 7.0)], dim=2)
    for key in ("joints", "parents", "roles"):
        padded[key] = torch.cat([batch[key], batch[key][:, :2]], dim=1)
    padded["joint_mask"] = torch.cat([batch["joint_mask"], torch.zeros(2, 2, dtype=torch.bool)], dim=1)
    assert torch.allclose(model(padded)[..., :8], before, atol=1e-4)
    objective = plugins.build("objectives", {"name": "skin_weights"})
    exact = objective(lambda _: before, {**batch, "weights": before.exp()})
    assert float(exact["loss"]) == pytest.approx(0, abs=1e-4)
    assert float(objective(lambda _: before.roll(1, dims=-1), {**batch, "weights": before.exp()})["loss"]) > 0.01
