"""The judge of attributes: what captions name, and whether shapes have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.metrics.attribute_accuracy import AttributeAccuracy, slots_of
from maquette_models.metrics.attribute_judge import GRID, Surfaces, color_histogram, surface_grid, train_judge
from maquette_models.metrics.attribute_words import CLASS, AttributeWords, Described
from tests.models.voxset import toy_surfaces

toy_surfaces.install()


@pytest.fixture(scope="module")
def metric() -> AttributeAccuracy:
    block = {"name": "attribute_accuracy", "shards": "toy", "reader": "toy_surfaces", "steps": 60, "least": 4}
    return plugins.build("metrics", block)


def box(half: tuple[float, float, float], color: tuple[int, int, int]) -> Mesh:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]]
    faces += [[0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    colors = np.tile([*color, 255], (8, 1)).astype(np.uint8)
    return Mesh(corners.astype(np.float32), np.array(faces, np.int32), colors)


def described(caption: str, **attributes: str) -> Described:
    return Described(0, [caption], attributes)


def test_phrases_that_imply_are_told_from_phrases_that_name() -> None:
    """Red chairs are never tall here: "red" still names the colour alone."""
    shapes = [described("a short red chair", color="red", size="short")] * 40
    shapes += [described("a short blue chair", color="blue", size="short")] * 40
    shapes += [described("a tall blue chair", color="blue", size="tall")] * 40
    words = AttributeWords(shapes)
    assert words("a tall red chair", 0) == {"color": "red", "size": "tall"}
    assert words("a chair", 0) == {} and words("a red chair", 1) == {}


def test_phrases_seen_too_seldom_name_nothing() -> None:
    shapes = [described("a chair", arms="False")] * 300 + [described("a chair with arms", arms="True")] * 30
    shapes += [described("a dusty chair", arms="False")] * 20  # all without arms, but so are nearly all
    words = AttributeWords(shapes)
    assert words("a chair with arms", 0) == {"arms": "True"}
    assert words("a dusty chair", 0) == {}


def test_contradictions_name_nothing() -> None:
    shapes = [described("a tall chair", size="tall")] * 40 + [described("a short chair", size="short")] * 40
    assert AttributeWords(shapes)("a tall short chair", 0) == {}


def test_attributes_with_one_value_or_too_few_shapes_are_not_judged() -> None:
    shapes = [described("", size=size, color="red") for size in ("tall", "short") for _ in range(5)]
    shapes.append(described("", size="huge", color="red"))
    assert slots_of(shapes, ["chair"], least=3) == {(-1, CLASS): ["chair"], (-1, "size"): ["short", "tall"]}


def test_grid_holds_area() -> None:
    points = torch.tensor([[[-0.5, 0.0, 0.49], [-0.5, 0.0, 0.49], [0.3, 0.3, 0.3], [9.0, 9.0, 9.0]]])
    grid = surface_grid(points)
    assert grid.shape == (1, 1, GRID, GRID, GRID)
    torch.testing.assert_close(grid[0, 0, 0, GRID // 2, GRID - 1].square(), torch.tensor(GRID**2 / 2))
    torch.testing.assert_close(grid.square().sum() / GRID**2, torch.tensor(1.0))


def test_histogram_holds_shares_of_colours() -> None:
    colors = torch.tensor([[[1.0, 0.0, 0.0]] * 3 + [[0.0, 0.0, 1.0]]])
    shares = color_histogram(colors).square()[0]
    assert shares.nonzero().squeeze(1).tolist() == [7, 7 * 64]
    torch.testing.assert_close(shares[[7, 7 * 64]], torch.tensor([0.25, 0.75]))


def test_real_shapes_are_the_ceiling(metric: AttributeAccuracy) -> None:
    for split, least in (("val", 0.95), ("unseen_pairs", 0.95)):
        judgements = metric.ceilings[split]
        assert judgements and all(set(one.met) == {CLASS, "color", "size"} for one in judgements)
        assert np.mean([one.share for one in judgements]) >= least


def test_shapes_are_judged_by_what_their_captions_name(metric: AttributeAccuracy) -> None:
    metric.reset()
    red, tall = (205, 25, 25), (0.12, 0.35, 0.12)
    metric.update(box(tall, red), "a tall red box", 0)
    assert metric.judgements[-1].met == {CLASS: True, "color": True, "size": True}
    metric.update(box(tall, red), "a flat blue box", 0)
    assert metric.judgements[-1].met == {CLASS: True, "color": False, "size": False}
    metric.update(box(tall, red), "a box", 0)
    assert metric.judgements[-1].met == {CLASS: True}
    metric.update(None, "a tall red box", 0)
    assert metric.judgements[-1].met == {CLASS: False, "color": False, "size": False}
    torch.testing.assert_close(metric.compute(), torch.tensor((1 + 1 / 3 + 1 + 0) / 4))


def test_the_same_arguments_give_the_same_judge() -> None:
    generator = torch.Generator().manual_seed(0)
    surfaces = Surfaces(torch.rand(6, 64, 3, generator=generator) - 0.5, torch.rand(6, 64, 3, generator=generator))
    labels = torch.tensor([[0, 1], [1, -1], [0, 0], [1, -1], [0, 1], [1, 2]])
    state = torch.get_rng_state()
    one, other = (train_judge(surfaces, labels, [2, 3], steps=3, seed=1) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    for own, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(own, its)


def test_shards_without_training_shapes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maquette_models.metrics.attribute_accuracy.read_shards", lambda *_, **__: iter(()))
    with pytest.raises(MaquetteError, match="no training shapes"):
        plugins.build("metrics", {"name": "attribute_accuracy", "shards": "toy", "reader": "toy_surfaces"})
