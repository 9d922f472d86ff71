"""The network, its labels and its loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette import plugins
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette_models.parts.part_labels import UNLABELLED, kind_of_part, kinds_of_parts, point_labels
from maquette_models.parts.part_objective import PartLabels, PartLabelsConfig
from maquette_models.parts.part_segmenter import POINT_FEATURES, point_features
from tests.models.parts import toy_parts

SIZES = {"tokens": 32, "width": 32, "heads": 2, "depth": 1, "point_width": 16, "query_width": 32}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return plugins.build("architectures", {"name": "part_segmenter", "part_names": ["seat", "legs", "back"], **SIZES})


def batch(rows: int = 2, points: int = 256) -> dict:
    generator = torch.Generator().manual_seed(1)
    surface = torch.nn.functional.normalize(torch.randn(rows, points, 3, generator=generator), dim=-1) * 0.4
    parts = (surface[..., 1] > 0).to(torch.uint8)
    return {
        "surface": surface,
        "normals": surface / 0.4,
        "surface_color": torch.rand(rows, points, 3, generator=generator),
        "surface_part": parts,
        "part_names": [["legs", "seat"]] * rows,
    }


def test_kinds_are_names_without_numbers():
    assert kinds_of_parts(["stone 2", "stone 1", "Tail fin", "leg_04", "7"]) == ["7", "leg", "stone", "tail fin"]


@given(st.text("aé 1_-.", min_size=1, max_size=12))
def test_a_kind_of_a_kind_is_itself_or_shorter(name):
    kind = kind_of_part(name)
    assert kind and len(kind_of_part(kind)) <= len(kind)


def test_labels_follow_each_samples_own_names():
    given_batch = {
        "surface_part": torch.tensor([[0, 1, 1], [1, 0, 2]], dtype=torch.uint8),
        "part_names": [["legs", "seat"], ["seat", "cushion 1", "legs"]],
    }
    labels = point_labels(given_batch, ["back", "legs", "seat"])
    assert labels.tolist() == [[1, 2, 2], [UNLABELLED, 2, 1]]


def test_points_without_a_known_part_do_not_count():
    objective = PartLabels(PartLabelsConfig(queries=4))
    logits = torch.zeros(1, 4, 3)
    logits[0, 0, 1] = 50.0
    terms = objective.loss(logits, torch.tensor([[1, UNLABELLED, UNLABELLED, UNLABELLED]]))
    assert float(terms["loss"]) < 1e-6 and float(terms["accuracy"]) == 1


def test_balance_counts_parts_alike():
    labels = torch.tensor([[0] * 9 + [1]])
    weights = {
        balance: PartLabels(PartLabelsConfig(balance=balance)).weights(labels, labels >= 0, 2)[0]
        for balance in (0.0, 1.0)
    }
    assert torch.equal(weights[0.0], torch.ones(10))
    assert weights[1.0][:9].sum() == pytest.approx(float(weights[1.0][9:].sum()))


def test_samples_do_not_depend_on_their_neighbours(model):
    model.eval()
    whole = batch(3)
    objective = PartLabels(PartLabelsConfig(queries=64))
    together = model(*objective.inputs(model, whole))
    alone = model(*objective.inputs(model, {k: v[1:2] for k, v in whole.items()}))
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_hidden_colours_are_drawn_for_the_sample_and_say_nothing(model):
    objective = PartLabels(PartLabelsConfig(queries=64, hide_color=0.5))
    model.train()
    shown = []
    for keys in ((0, 1, 2, 3), (2, 3, 0, 1)):
        with drawing(seed=0, keys=list(keys)):
            _, features, *_ = objective.inputs(model, batch(4))
        shown.append(dict(zip(keys, features[..., -1].mean(dim=1).tolist(), strict=True)))
    assert shown[0] == shown[1] and set(shown[0].values()) == {0.0, 1.0}
    blank = point_features(torch.ones(2, 3), None)
    assert blank.shape[-1] == POINT_FEATURES and (blank[:, 3:] == 0).all()


def test_protocol(model):
    example = model.example_batch(2)
    objective = PartLabels(PartLabelsConfig(queries=32))
    assert torch.isfinite(objective(model, example)["loss"])
    assert model.flops(example) > 0 and len(model.blocks()) == 1


def test_it_learns_on_toys(parts_run):
    from maquette.runs import load_run

    model = load_run(parts_run).model
    held_out = toy_parts.batch(range(10_000, 10_008), 512)
    terms = PartLabels(PartLabelsConfig(queries=256))(model, held_out)
    assert model.kinds == ["board", "post"] and float(terms["accuracy"]) > 0.9


def test_what_cannot_be_is_said():
    with pytest.raises(MaquetteError, match="part_names"):
        plugins.build("architectures", {"name": "part_segmenter"})
    with pytest.raises(MaquetteError, match="width"):
        plugins.build("architectures", {"name": "part_segmenter", "part_names": ["a"], "width": 50})
