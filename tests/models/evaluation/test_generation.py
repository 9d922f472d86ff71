"""What figures of generation say of generators whose worth is known: one that is right, one that repeats itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh, Request
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig
from maquette_models.evaluation.captions import (
    Asked,
    asked_of_file,
    asked_of_split,
    held_out_captions,
    likest,
    repeated,
)
from maquette_models.evaluation.conditional import LOOKED_UP, REAL, Judges, overlaps
from maquette_models.evaluation.generation import Generated, evaluate_generation, generation
from maquette_models.evaluation.samples import Field, Sample, generate, looked_up
from maquette_models.shards import read_shards

Shape = tuple[Mesh, Tensor]


class Known:
    """A pipeline that knows a shape for every caption; `None` is one that fails."""

    def __init__(self, shapes: dict[str, Shape | None]) -> None:
        self.shapes = shapes
        self.seeds: list[int] = []

    def batch_with_fields(self, requests: Sequence[Request]) -> list[tuple[Asset | MaquetteError, Tensor]]:
        self.seeds += [request.seed for request in requests]
        found = [self.shapes[request.prompt] for request in requests]
        return [(MaquetteError("empty"), torch.ones(1)) if f is None else (Asset(f[0]), f[1][None]) for f in found]


class MeshesOnly(Known):
    """The same without fields."""

    batch_with_fields = None  # type: ignore[assignment]

    def batch(self, requests: Sequence[Request]) -> list[Asset]:
        return [Asset(self.shapes[request.prompt][0]) for request in requests]

    def __getattribute__(self, name: str) -> Any:
        if name == "batch_with_fields":
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.fixture(scope="module")
def shapes(shards: str) -> dict[str, Shape]:
    """The held-out shapes by their captions."""
    extract = MarchingCubes(MarchingCubesConfig())
    return {
        caption: (extract(tsdf, color), tsdf)
        for split in ("val", "unseen_pairs")
        for batch in read_shards(shards, split)
        for caption, tsdf, color in zip(batch["caption"], batch["tsdf"], batch["color"], strict=True)
    }


@pytest.fixture(scope="module")
def judges(shards: str) -> Judges:
    return Judges(shards)


@pytest.fixture(scope="module")
def asked(shards: str) -> dict[str, list[Asked]]:
    return {split: asked_of_split(shards, split) for split in ("val", "unseen_pairs")}


@pytest.fixture(scope="module")
def perfect(judges: Judges, shapes: dict[str, Shape], asked: dict[str, list[Asked]]) -> Generated:
    return generation(Known(shapes), judges, asked, seed=0)


def test_a_generator_that_is_always_right(perfect: Generated, asked: dict[str, list[Asked]]) -> None:
    everything = [one.caption for captions in asked.values() for one in captions]
    for split, captions in asked.items():
        figures = perfect.figures[f"conditional: {split}"]
        told_apart = [one for one in captions if everything.count(one.caption) == 1]
        assert figures["class_accuracy"].value == figures["class_accuracy"].beside[REAL]
        assert figures["class_accuracy"].beside["chance"] == 1 / len({one.class_id for one in captions})
        assert figures["color_accuracy"].value == figures["color_accuracy"].beside[REAL]
        least = len(told_apart) / len(captions)
        assert figures["matched_iou"].value >= max(least, figures["matched_iou"].beside[LOOKED_UP])
        assert figures["retrieval"].value >= 0.7 * least > figures["retrieval"].beside["chance"], "some look alike"
        gap, own = figures["matched_above_mismatched"], figures["matched_iou"]
        assert gap.value == pytest.approx(own.value - own.beside["others of its class"])
        assert figures["empty_share"].value == 0
    spread = perfect.figures["distribution"]
    assert spread["coverage"].value > 0.9 and spread["nearest_neighbour_accuracy"].value < 0.2
    assert spread["minimum_matching_distance"].value < 1e-6
    assert spread["diversity"].value == pytest.approx(spread["diversity"].beside[REAL])
    quality = perfect.figures["mesh quality"]["watertight_share"]
    assert [quality.value] == list(quality.beside.values())


def test_a_generator_that_repeats_itself(
    judges: Judges, shapes: dict[str, Shape], asked: dict[str, list[Asked]]
) -> None:
    first = shapes[asked["val"][0].caption]
    same = generation(Known(dict.fromkeys(shapes, first)), judges, {"val": asked["val"]}, seed=0)
    figures, spread = same.figures["conditional: val"], same.figures["distribution"]
    asked_for = [one.class_id for one in asked["val"]]
    assert figures["class_accuracy"].value == pytest.approx(asked_for.count(asked_for[0]) / len(asked_for))
    assert figures["retrieval"].value <= 0.5
    assert spread["coverage"].value == pytest.approx(1 / len(asked["val"]))
    assert spread["nearest_neighbour_accuracy"].value > 0.8
    assert spread["diversity"].value == 0


def test_empty_samples_count(judges: Judges, shapes: dict[str, Shape], asked: dict[str, list[Asked]]) -> None:
    missing = asked["val"][0].caption
    found = generation(Known({**shapes, missing: None}), judges, {"val": asked["val"]}, seed=0)
    figures, count = found.figures["conditional: val"], len(asked["val"])
    lost = sum(one.caption == missing for one in asked["val"])
    assert figures["empty_share"].value == pytest.approx(lost / count)
    assert figures["class_accuracy"].value <= 1 - lost / count and figures["class_accuracy"].n == count
    assert figures["matched_iou"].n == count and found.figures["mesh quality"]["faces"].n == count - lost
    nothing = generation(Known(dict.fromkeys(shapes)), judges, {"val": asked["val"]}, seed=0)
    assert nothing.figures["conditional: val"]["matched_iou"].value == 0
    assert nothing.figures["distribution"] == nothing.figures["mesh quality"] == {}


def test_fields_of_pipelines_that_give_meshes_alone(
    shards: str, shapes: dict[str, Shape], asked: dict[str, list[Asked]]
) -> None:
    known, meshes = (generate(kind(shapes), asked["val"][:6], 0, Field.of(shards)) for kind in (Known, MeshesOnly))
    for one, other in zip(known, meshes, strict=True):
        assert ((one.tsdf < 0) != (other.tsdf < 0)).sum() <= 0.03 * (one.tsdf < 0).sum()


def test_the_short_measurement(
    judges: Judges, shapes: dict[str, Shape], asked: dict[str, list[Asked]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maquette_models.evaluation.generation.Judges", lambda _: judges)
    shards = judges.shards
    pipeline = Known(shapes)
    found = evaluate_generation(pipeline, shards, count=len(asked["val"]) + 1, seed=7)
    assert pipeline.seeds == list(range(7, 8 + len(asked["val"])))
    assert {"class_accuracy", "color_accuracy", "diversity", "nearest_training_iou", "watertight_share"} <= set(found)
    assert found["nearest_training_iou"].value == pytest.approx(found["nearest_training_iou"].beside[REAL], abs=0.05)
    assert set(evaluate_generation(Known(dict.fromkeys(shapes)), shards, 4)) == {"empty_share"}


def test_captions(shards: str, tmp_path: Any, asked: dict[str, list[Asked]]) -> None:
    labels = [one.class_id for one in asked["val"]]
    turns = min(labels.count(0), labels.count(1))
    assert labels[: 2 * turns] == [0, 1] * turns, "the classes in turn"
    assert held_out_captions(shards) == [(one.caption, one.class_id) for one in asked["val"]]
    assert len(repeated(asked["val"], 99)) == 99 and repeated(asked["val"], 99)[len(labels)] == asked["val"][0]
    file = tmp_path / "captions.txt"
    file.write_text("a red car\n\n  a tall chair on a car \nsomething else\n")
    found = asked_of_file(file, ["chair", "car"])
    assert [(one.caption, one.class_id) for one in found] == [
        ("a red car", 1),
        ("a tall chair on a car", 0),
        ("something else", -1),
    ]
    for text, message in (("\n", "empty"), (None, "cannot be read")):
        bad = tmp_path / "bad.txt"
        bad.unlink(missing_ok=True)
        if text is not None:
            bad.write_text(text)
        with pytest.raises(MaquetteError, match=message):
            asked_of_file(bad, [])


def test_the_likest_caption_is_looked_up(shards: str, asked: dict[str, list[Asked]]) -> None:
    assert likest([Asked("a red chair", 0)], ["a blue chair", "a red chair with arms", "a red car"]) == [1]
    train = {
        c: n for b in read_shards(shards, "train") for c, n in zip(b["caption"], b["class_id"].tolist(), strict=True)
    }
    caption = next(iter(train))
    found = looked_up(shards, [Asked(caption, train[caption])])
    stored = next(read_shards(shards, "train"))["tsdf"][0]
    assert torch.equal(found[0].tsdf[0], stored)


def test_overlaps_by_hand() -> None:
    def sample(name: str, label: int, start: int, stop: int) -> Sample:
        tsdf = torch.ones(1, 1, 8, 8, 8)
        tsdf[:, :, start:stop] = -1
        return Sample(Asked("", label, name), Mesh([[0, 0, 0]], [[0, 0, 0]]), tsdf)

    held_out = [sample("a", 0, 0, 4), sample("b", 0, 2, 6), sample("c", 0, 4, 8), sample("d", 1, 0, 2)]
    found = overlaps([sample("a", 0, 0, 4), sample("b", 0, 0, 3)], held_out)
    matched = [1, 1 / 6]
    assert found["matched_iou"].value == pytest.approx(sum(matched) / 2)
    gaps = [1 - (2 / 6 + 0) / 2, 1 / 6 - (3 / 4 + 0) / 2]
    assert found["matched_above_mismatched"].value == pytest.approx(sum(gaps) / 2)
    assert found["retrieval"].value == 0.5 and found["retrieval"].beside["chance"] == pytest.approx(1 / 3)
    assert found["retrieval_of_5"].value == 1
    empty = overlaps([Sample(Asked("", 0, "c"), None, None)], held_out)
    assert empty["matched_iou"].value == 0 and empty["retrieval"].value == 0, "an empty shape finds nothing"


def test_attributes_that_captions_name(shards: str, perfect: Generated) -> None:
    assert Judges(shards).attributes is None and not perfect.tables, "no surface colours, no judge of attributes"
