"""From pictures, words and meshes through a training to assets, and what the pictures were worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.runs import load_run
from maquette.testing import check_pipeline, check_pipeline_on_device
from maquette.types import Asset, Mesh, Request
from maquette_models.evaluation.image_to_shape import (
    Comparison,
    evaluate_image_to_shape,
    figures,
    grouped_mean,
    in_turn,
)
from tests.models import toy_shapes as toy
from tests.models.conditioners import pictured_shapes as pictured

pictured.install()

SMALL = {"depth": 1, "heads": 2}
CONDITIONER = {
    "name": "composite",
    "width": 16,
    "parts": {
        "text": {"merges": "${facts:merges}", "max_tokens": 8, **SMALL},
        "class": {"classes": "${facts:classes}"},
        "views": {"max_views": 2, "size": 16, "patch": 8, **SMALL},
        "shape": {"tokens": 4, "points": 16, **SMALL},
    },
}
CONDITION = {
    "fields": ["view_rgb", "view_camera", "surface", "normals"],
    "views": 2,
    "points": 16,
    "paraphrases": True,
    "tokenizer": 280,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow on toy shapes, under text, class, pictures and points."""
    root = tmp_path_factory.mktemp("runs")
    toy.train_autoencoder(root / "autoencoder", steps=60)
    return pictured.train_flow(root / "flow", root / "autoencoder", CONDITIONER, CONDITION, steps=40)


@pytest.fixture(scope="module")
def pipeline(run: Path) -> Any:
    return open_pipeline(run)


def picture(number: int, view: int = 0) -> np.ndarray:
    return (pictured.extra(number)["view_rgb"][view] * 255).round().byte().permute(1, 2, 0).numpy()


def ball() -> Mesh:
    return plugins.build("decoders", {"name": "marching_cubes"})(toy.shape(0)[0][0])


def test_the_pipelines_contract(pipeline: Any) -> None:
    check_pipeline(pipeline, Request(prompt="a velvet red ball", seed=3))


def test_models_compute_on_another_device(run: Path) -> None:
    check_pipeline_on_device(lambda: open_pipeline(run), Request(prompt="a red ball", images=(picture(0),), steps=3))


def test_a_checkpoint_describes_itself(run: Path) -> None:
    """Tokenizer and classes are in the run: nothing of the data is needed to condition on words."""
    conditioner = load_run(run).model.conditioner
    assert conditioner.parts["text"].tokenizer.pieces("red ball") == ["Ġred", "Ġball"]
    assert conditioner.class_index == {"ball": 0, "box": 1}


def test_whatever_is_given_changes_the_shape(pipeline: Any) -> None:
    requests = [
        Request(seed=5),
        Request("a red ball", seed=5),
        Request("a red ball, velvet", seed=5),
        Request(class_name="box", seed=5),
        Request(seed=5, images=(picture(0),)),
        Request(seed=5, images=(picture(0), picture(0, 1))),
        Request(seed=5, mesh=ball()),
        Request("a red ball", seed=5, images=(picture(0),), mesh=ball()),
    ]
    together = pipeline.batch(requests)
    hashes = [asset.metadata["latent_sha256"] for asset in together]
    assert len(set(hashes)) == len(requests)
    assert [asset.metadata.get("images") for asset in together[3:6]] == [None, 1, 2]
    assert together[2].metadata["unknown_words"] == []
    for request, asset in zip(requests[4:], together[4:], strict=True):
        alone = pipeline(request)
        np.testing.assert_allclose(alone.mesh.vertices, asset.mesh.vertices, atol=1e-4)


def test_one_request_that_cannot_be_does_not_stop_the_others(pipeline: Any) -> None:
    three = tuple(picture(0, view) for view in range(3))
    refused, made, unknown = pipeline.batch([Request(images=three), Request("a ball"), Request(class_name="bax")])
    assert isinstance(refused, MaquetteError) and "at most 2" in str(refused)
    assert isinstance(made, Asset)
    assert isinstance(unknown, MaquetteError) and "box" in str(unknown)


def test_a_text_run_refuses_pictures(run: Path, tmp_path: Path) -> None:
    text = toy.train_flow(tmp_path / "text", run.parent / "autoencoder", steps=2)
    with pytest.raises(MaquetteError, match="cannot use pictures; it takes a prompt, a class"):
        open_pipeline(text)(Request(images=(picture(0),)))
    with pytest.raises(MaquetteError, match="cannot use pictures"):
        evaluate_image_to_shape(open_pipeline(text), "toy", count=2, reader="pictured_shapes")


class Oracle:
    """Gives the shape that a picture shows, or one of another shape of its class."""

    def __init__(self, right: bool) -> None:
        self.config = type("Config", (), {"max_batch": 4})
        self.right = right

    def batch_with_fields(self, requests: list[Request]) -> list[tuple[Asset, torch.Tensor]]:
        return [(Asset(ball()), self.answer(request.images[0])) for request in requests]

    def answer(self, image: np.ndarray) -> torch.Tensor:
        number = next(n for n in range(0, 24, 4) for v in range(3) if np.array_equal(picture(n, v), image))
        return toy.shape(number if self.right else (number + 8) % 24)[0][None]


def test_figures_tell_the_right_shape_from_others_of_its_class() -> None:
    right = evaluate_image_to_shape(Oracle(True), "toy", views=2, reader="pictured_shapes")
    wrong = evaluate_image_to_shape(Oracle(False), "toy", views=2, reader="pictured_shapes")
    assert right["matched_iou"].value == 1.0 and right["retrieval"].value == 1.0 and right["matched_iou"].n == 12
    assert right["matched_iou"].beside["others of its class"] < 0.9
    gap = right["matched_above_mismatched"]
    assert gap.interval[0] <= gap.value <= gap.interval[1] and gap.interval[0] > 0.1
    assert wrong["retrieval"].value < 0.3 and wrong["matched_above_mismatched"].value < gap.interval[0]
    assert right["retrieval"].beside["chance"] == pytest.approx(1 / 6)


def test_several_samples_of_a_shape_do_not_narrow_the_interval() -> None:
    values, groups = np.arange(20) / 20, np.arange(20)
    once = grouped_mean(values, groups, {}).interval
    thrice = grouped_mean(np.tile(values, 3), np.tile(groups, 3), {}).interval
    assert once[1] - once[0] == pytest.approx(thrice[1] - thrice[0], rel=0.15)


def test_an_empty_sample_counts_as_no_overlap() -> None:
    one = Comparison(shape=0, own=0.0, others=0.0, rank=0, count=3)
    found = figures([one, replace(one, shape=1, own=0.8, others=0.4)])
    assert found["empty_share"].value == 0.5 and found["retrieval"].value == 0.5
    assert in_turn([0, 0, 0, 1, 1, 2]) == [0, 3, 5, 1, 4, 2]
