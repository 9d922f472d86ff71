"""From toy meshes through training to low-poly meshes: exact overfitting, validity, and one request at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.testing import check_dataset, check_pipeline_on_device
from maquette.types import Mesh, Request
from maquette_models.mesh_tokens.choice import Choice
from maquette_models.mesh_tokens.mesh_dataset import MeshTokens, MeshTokensConfig
from maquette_models.mesh_tokens.quantise import decode_places, quantise
from maquette_models.mesh_tokens.tokeniser import Tokeniser
from tests.models.mesh_tokens import toy_meshes as toy

toy.install()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows four meshes by heart."""
    return toy.train_toy(tmp_path_factory.mktemp("runs") / "run", steps=90)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows nothing yet."""
    return toy.train_toy(tmp_path_factory.mktemp("runs") / "hasty", steps=1)


def dataset(**changes: Any) -> MeshTokens:
    settings = {"shards": "toy", "reader": "toy_meshes", "blocks": 4, "offsets": 8, "points": 32, "batch_size": 4}
    return MeshTokens(MeshTokensConfig(**{**settings, **changes}))


def ready(**changes: Any) -> MeshTokens:
    data = dataset(**changes)
    data.setup("fit")
    return data


def requests(count: int = 6) -> list[Request]:
    return [Request(seed=i, mesh=toy.toy_mesh(i)) for i in range(count)]


def test_dataset_contract() -> None:
    check_dataset(lambda: dataset(stretch=0.3, turn=True, mirror=True), batches=12)


def test_batches_hold_the_meshes() -> None:
    data = ready()
    tokeniser = Tokeniser(data.tokeniser.vocabulary)
    for part in data.val_dataloader():
        for row, name in enumerate(part["id"]):
            tokens = part["tokens"][row][part["token_mask"][row]]
            scaled = toy.toy_mesh(int(name.removeprefix("toy-")))
            longest = 0.9 / np.ptp(scaled.vertices[scaled.faces].reshape(-1, 3), axis=0).max()
            centre = (scaled.vertices[scaled.faces].min((0, 1)) + scaled.vertices[scaled.faces].max((0, 1))) / 2
            wanted = quantise(Mesh((scaled.vertices - centre) * longest * 0.99999, scaled.faces), 32)
            assert np.array_equal(tokeniser.decode(tokens.numpy()), wanted)


def test_variation_keeps_faces_and_the_longest_side() -> None:
    plain, other = ready(sorted_within=1), ready(sorted_within=1, stretch=0.3, turn=True, mirror=True)
    one, two = next(plain.train_dataloader()), next(other.train_dataloader())
    assert one["id"] == two["id"] and not torch.equal(one["tokens"], two["tokens"])
    for row in range(4):
        faces = [other.tokeniser.decode(part["tokens"][row][part["token_mask"][row]].numpy()) for part in (one, two)]
        assert len(faces[0]) == len(faces[1])
        for found in faces:
            assert np.ptp(decode_places(found.ravel(), 32), axis=0).max() in (28, 29), "0.9 of 32 cells"


def test_points_lie_on_the_mesh_and_face_outwards() -> None:
    part = next(ready(stretch=0.3, turn=True, mirror=True, batch_size=12).train_dataloader())
    boxes = [row for row, label in enumerate(part["class_id"].tolist()) if label == 0]
    outward = (part["surface"][boxes] * part["normals"][boxes]).sum(-1)
    assert boxes and (outward > 0).all()


def test_groups_of_an_epoch_rise_in_length() -> None:
    data = ready(sorted_within=6)
    lengths = [len(data.splits["train"][data.row(position)].mesh.faces) for position in range(12)]
    assert lengths[:6] == sorted(lengths[:6]) and sorted(data.row(p) for p in range(12)) == list(range(12))


def test_too_many_faces_are_left_out() -> None:
    assert {sample.class_id for sample in ready(max_faces=8).splits["train"]} == {1}
    with pytest.raises(MaquetteError, match="raise max_faces"):
        ready(max_faces=2)


def test_overfitted_meshes_come_back_exactly(run: Path) -> None:
    pipeline = open_pipeline(run, {"temperature": 0.0})
    for sample in ready(limit=4, max_faces=12).splits["train"]:
        asset = pipeline(Request(mesh=sample.mesh))
        assert np.array_equal(quantise(asset.mesh, 32), quantise(sample.mesh, 32)) and not asset.metadata["cut"]


def test_models_compute_on_another_device(run: Path) -> None:
    asked = Request(mesh=ready(limit=1, max_faces=12).splits["train"][0].mesh)
    check_pipeline_on_device(lambda: open_pipeline(run, {"temperature": 0.0}), asked)


def test_requests_do_not_see_each_other(run: Path) -> None:
    pipeline = open_pipeline(run)
    together = pipeline.batch(requests())
    for order in ([3], [5, 3, 1], [2, 3]):
        again = pipeline.batch([requests()[i] for i in order])
        for i, asset in zip(order, again, strict=True):
            assert asset.metadata == together[i].metadata
            assert np.array_equal(asset.mesh.vertices, together[i].mesh.vertices)


def test_seeds_matter(hasty: Path) -> None:
    pipeline = open_pipeline(hasty)
    request = requests()[0]
    assert pipeline(request).metadata != pipeline(replace(request, seed=9)).metadata


def test_even_an_untrained_model_writes_meshes_within_bounds(hasty: Path) -> None:
    pipeline = open_pipeline(hasty, {"min_faces": 4, "max_faces": 9, "max_tokens": 40, "temperature": 2.0})
    for asset in pipeline.batch(requests(12)):
        faces, corners = asset.mesh.faces, asset.mesh.vertices.astype(np.float64)[asset.mesh.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        turned = {tuple(np.roll(face, -face.argmin())) for face in faces}
        assert 4 <= len(faces) == len(turned) <= 9 and asset.metadata["tokens"] <= 40
        assert np.linalg.norm(normals, axis=1).min() > 1e-5


def test_the_mesh_lies_where_the_request_lies(run: Path) -> None:
    pipeline = open_pipeline(run, {"temperature": 0.0})
    sample = ready(limit=4, max_faces=12).splits["train"][0].mesh
    one = pipeline(Request(mesh=sample))
    moved = pipeline(Request(mesh=Mesh(sample.vertices * 3 + np.float32([1, 2, 3]), sample.faces)))
    assert np.allclose(moved.mesh.vertices, one.mesh.vertices * 3 + [1, 2, 3], atol=1e-4)


def test_a_bound_that_cuts_a_mesh_off_is_told(run: Path) -> None:
    """Not where the mesh has just as many faces."""
    mesh = next(sample.mesh for sample in ready(limit=4, max_faces=12).splits["train"] if sample.class_id == 0)
    assert [
        open_pipeline(run, {"temperature": 0.0, "max_faces": most})(Request(mesh=mesh)).metadata["cut"]
        for most in (9, 12)
    ] == [True, False]


def test_points_do_as_well(run: Path) -> None:
    from maquette_models.surface_points import surface_points

    pipeline = open_pipeline(run, {"temperature": 0.0})
    sample = ready(limit=4, max_faces=12).splits["train"][0].mesh
    points, normals = (value.numpy() for value in surface_points(sample, 64))
    asset = pipeline(Request(options={"points": points, "normals": normals}))
    assert np.abs(asset.mesh.vertices).max() < 0.55 and len(asset.mesh.faces) >= 4


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request(prompt="a box"), "give 'mesh'"),
        (Request(mesh=toy.toy_mesh(0), options={"temprature": 1}), "temperature"),
        (Request(mesh=toy.toy_mesh(0), guidance=3.0), "no pictures, guidance"),
        (Request(options={"points": np.zeros((4, 3))}), "normals"),
        (Request(options={"points": np.zeros((4, 3)), "normals": np.ones((4, 3))}), "all in one place"),
        (Request(mesh=toy.toy_mesh(0), options={"top_p": 0.0}), "top_p"),
    ],
)
def test_what_cannot_be_followed_is_refused(hasty: Path, request_: Request, reason: str) -> None:
    with pytest.raises(MaquetteError, match=reason):
        open_pipeline(hasty)(request_)


def test_one_that_cannot_be_followed_costs_the_others_nothing(hasty: Path) -> None:
    pipeline = open_pipeline(hasty)
    good = requests()[0]
    refused, asset = pipeline.batch([Request("no mesh"), good])
    assert isinstance(refused, MaquetteError)
    assert np.array_equal(asset.mesh.faces, pipeline(good).mesh.faces)


def test_choice() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    allowed = np.array([False, True, True, True])
    assert Choice(temperature=0)(logits, allowed, 0.99) == 1
    numbers = np.arange(0.0005, 1, 0.001)
    shares = np.bincount([Choice()(logits, allowed, n) for n in numbers], minlength=4) / len(numbers)
    assert np.allclose(shares, [0, 0.6, 0.3, 0.1], atol=0.002)
    assert {Choice(top_k=2)(logits, allowed, n) for n in numbers} == {1, 2}
    assert {Choice(top_p=0.85)(logits, allowed, n) for n in numbers} == {1, 2}
    assert {Choice(top_p=0.01)(logits, allowed, n) for n in numbers} == {1}
    cold = np.bincount([Choice(temperature=0.5)(logits, allowed, n) for n in numbers], minlength=4)
    assert cold[1] / len(numbers) == pytest.approx(0.36 / 0.46, abs=0.002)
