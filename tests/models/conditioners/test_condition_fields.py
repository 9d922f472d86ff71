"""What latents carry to the conditioner: drawn by seed and position, mirrored with the twin, embeddings joined."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.testing import check_dataset
from maquette_models.conditioners.byte_pairs import BytePairs
from maquette_models.conditioners.frozen_part import FrozenPart
from maquette_models.latents.condition_fields import MIRRORS
from maquette_models.latents.precompute import precompute
from maquette_models.latents.stored_embeddings import Embedded, StoredEmbeddings, write_embeddings
from tests.models import toy_shapes as toy
from tests.models.conditioners import pictured_shapes as pictured

pictured.install()


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.train_autoencoder(tmp_path_factory.mktemp("runs") / "autoencoder", steps=2)


def latents(autoencoder: Path, **condition: Any) -> Any:
    block = {"name": "latents", "reader": "pictured_shapes", "shards": "toy", "autoencoder": str(autoencoder)}
    return plugins.build("datasets", {**block, "batch_size": 6, "condition": condition})


def batches(data: Any, count: int) -> list[dict[str, Any]]:
    data.setup("fit")
    return list(islice(data.train_dataloader(), count))


EVERYTHING = {
    "fields": ["view_rgb", "view_camera", "surface", "normals"],
    "views": 2,
    "points": 16,
    "paraphrases": True,
}


def test_dataset_contract(autoencoder: Path) -> None:
    check_dataset(lambda: latents(autoencoder, **EVERYTHING, tokenizer=280), batches=8)


def test_nothing_is_added_unless_asked_for(autoencoder: Path) -> None:
    plain, rich = batches(latents(autoencoder), 3), batches(latents(autoencoder, **EVERYTHING), 3)
    assert plain[0].keys() == {"latent", "class_id", "caption", "id", "position"}
    for one, other in zip(plain, rich, strict=True):
        assert one["id"] == other["id"] and torch.equal(one["latent"], other["latent"])


def test_fields_are_those_of_the_sample(autoencoder: Path) -> None:
    captions, orders = set(), set()
    for batch in batches(latents(autoencoder, **EVERYTHING), 12):
        assert batch["view_rgb"].shape == (6, 2, 4, 16, 16) and batch["surface"].shape == (6, 16, 3)
        for row, name in enumerate(batch["id"]):
            mirrored = name.endswith("-mirrored")
            stored = pictured.extra(int(name.removesuffix("-mirrored").removeprefix("toy-")))
            expected = {key: MIRRORS[key](stored[key]) if mirrored else stored[key] for key in EVERYTHING["fields"]}
            views = [
                next(v for v in range(3) if torch.allclose(picture, expected["view_rgb"][v], atol=1e-6))
                for picture in batch["view_rgb"][row]
            ]
            orders.add(tuple(views))
            torch.testing.assert_close(batch["view_camera"][row], expected["view_camera"][views])
            starts = [s for s in range(49) if torch.allclose(batch["surface"][row], expected["surface"][s : s + 16])]
            assert len(starts) == 1
            torch.testing.assert_close(batch["normals"][row], expected["normals"][starts[0] : starts[0] + 16])
            captions.add((batch["caption"][row], name))
    assert orders == {(a, b) for a in range(3) for b in range(3) if a != b}, "every order of views is drawn"
    assert len({caption.split(" ")[0] for caption, _ in captions}) == 2, "other wordings are drawn too"


def test_a_mirrored_camera_sees_the_mirrored_point_in_the_mirrored_picture() -> None:
    camera, point = pictured.camera(0.7), torch.tensor([0.2, -0.1, 0.3, 1.0])
    turn = torch.tensor([-1.0, 1.0, 1.0, 1.0])
    seen, mirrored = camera @ point, MIRRORS["view_camera"](camera[None])[0] @ (turn * point)
    torch.testing.assert_close(mirrored, turn * seen)


def test_the_tokenizer_is_a_fact(autoencoder: Path) -> None:
    data = latents(autoencoder, tokenizer=300)
    data.setup("fit")
    merges = data.facts()["merges"]
    assert BytePairs(merges).pieces("a red ball, number 3")[:3] == ["Ġa", "Ġred", "Ġball"]
    plain = latents(autoencoder)
    plain.setup("fit")
    assert "merges" not in plain.facts()


def test_odd_settings_are_refused(autoencoder: Path) -> None:
    for condition, word in (
        ({"fields": ["view_rbg"]}, "view_rgb"),
        ({"views": 0}, "at least 1"),
        ({"tokenizer": 20}, "bytes alone"),
        ({"fields": ["view_rgb"], "views": 4}, "store 3"),
        ({"embeddings": ["nowhere"]}, "maquette precompute"),
    ):
        with pytest.raises(MaquetteError, match=word):
            batches(latents(autoencoder, **condition), 1)


class Counted(FrozenPart):
    """A frozen encoder of arithmetic, which counts how often it runs."""

    name = "counted"

    def __init__(self, per_caption: bool) -> None:
        super().__init__(8, 0.0, 5, 3)
        self.per_caption, self.runs = per_caption, 0

    def embed(self, things: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.runs += 1
        if self.per_caption:
            codes = torch.tensor([[len(text), text.count("e"), text.count("a"), ord(text[0]), 1.0] for text in things])
        else:
            codes = torch.cat(
                [
                    things[:, :3].mean(dim=(2, 3)),
                    things[:, 0, :, :8].mean(dim=(1, 2))[:, None],
                    things[:, 3].mean(dim=(1, 2))[:, None],
                ],
                dim=1,
            )
        embedding = codes[:, None] * torch.tensor([1.0, 0.5, 0.25])[:, None]
        return embedding.half(), torch.tensor([True, True, False]).expand(len(codes), 3)


@pytest.mark.parametrize("per_caption", [True, False])
def test_stored_embeddings_train_as_the_encoder_does(
    per_caption: bool, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = Counted(per_caption)
    build = plugins.build
    monkeypatch.setattr(
        plugins, "build", lambda kind, block: encoder if block["name"] == "counted" else build(kind, block)
    )
    count = precompute({"name": "counted"}, "toy", tmp_path / "stored", reader="pictured_shapes")
    assert count == 24 + (0 if per_caption else 18), "pictures also of the mirrored twins"
    condition = {"paraphrases": True, "views": 1, "fields": ["view_rgb"]}
    plain = batches(latents(autoencoder, **condition), 8)
    stored = batches(latents(autoencoder, **condition, embeddings=[str(tmp_path / "stored")]), 8)
    encoder.train()
    runs = encoder.runs
    for one, other in zip(plain, stored, strict=True):
        assert one["caption"] == other["caption"]
        live, read = encoder(encoder.prepare(one)), encoder(encoder.prepare(other))
        for a, b in zip(live, read, strict=True):
            assert torch.equal(a, b)
    assert encoder.runs == runs + 8, "with stored embeddings the encoder does not run"


def test_embeddings_that_are_not_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(MaquetteError, match="no samples"):
        write_embeddings(tmp_path / "none", "counted", True, [])
    assert not list(tmp_path.iterdir())
    row = Embedded("a", torch.rand(2, 3, 4).half(), torch.ones(2, 3, dtype=torch.bool))
    write_embeddings(tmp_path / "some", "counted", False, [row])
    stored = StoredEmbeddings(tmp_path / "some")
    embedding, mask = stored.read("a", [1, 0])
    assert torch.equal(embedding, row.embedding.flip(0)) and mask.all()
    with pytest.raises(MaquetteError, match="mirrored twins"):
        stored.read("a-mirrored", [0])
    with pytest.raises(MaquetteError, match="has 2 embeddings"):
        stored.read("a", [2])
    with pytest.raises(MaquetteError, match="exists already"):
        write_embeddings(tmp_path / "some", "counted", False, [row])
    with pytest.raises(MaquetteError, match="no frozen encoder"):
        precompute({"name": "class"}, "toy", tmp_path / "other", reader="pictured_shapes")
