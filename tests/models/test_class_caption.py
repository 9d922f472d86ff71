"""Words to ids, padding, dropping, and the null condition."""

from __future__ import annotations

import pytest
import torch

from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette_models.conditioners.class_caption import PAD, UNKNOWN, ClassCaption, ClassCaptionConfig, Drop, words

CLASSES = ["chair", "table"]
VOCABULARY = ["a", "red", "tall", "chair", "table", "with", "thick", "legs"]


def conditioner(**changes: object) -> ClassCaption:
    torch.manual_seed(0)
    return ClassCaption(
        ClassCaptionConfig(CLASSES, VOCABULARY, width=16, heads=2, max_words=6, **{"depth": 1, **changes})
    )


def test_words() -> None:
    assert words("A Tall, thick-legged CHAIR!") == ["a", "tall", "thick", "legged", "chair"]


def test_prepare() -> None:
    own = conditioner().eval()
    prepared = own.prepare({"class_id": torch.tensor([1, 0]), "caption": ["a red sofa", ""]})
    assert prepared["class_id"].tolist() == [1, 0]
    a, red = own.word_index["a"], own.word_index["red"]
    assert prepared["words"].tolist() == [[a, red, UNKNOWN, PAD, PAD, PAD], [PAD] * 6]
    assert own.unknown_words("a red sofa with velvet, sofa") == ["sofa", "velvet"]
    assert own.class_of("a red table") == 1
    assert own.class_of("a red thing") is None


def test_prepare_by_one_of_both() -> None:
    own = conditioner().eval()
    assert own.prepare({"caption": ["a chair"]})["class_id"].tolist() == [own.null_class]
    assert own.prepare({"class_id": torch.tensor([0])})["words"].tolist() == [[PAD] * 6]
    with pytest.raises(MaquetteError, match="neither"):
        own.prepare({})
    with pytest.raises(MaquetteError, match="2 classes"):
        own.prepare({"class_id": torch.tensor([5])})


def test_long_captions_are_cut() -> None:
    assert conditioner().prepare({"caption": ["a " * 40]})["words"].shape == (1, 6)


def test_padding_does_not_matter() -> None:
    own = conditioner().eval()
    prepared = own.prepare({"class_id": torch.tensor([1]), "caption": ["a red chair"]})
    before = own(prepared)
    with torch.no_grad():
        own.word_embedding.weight[PAD] += 7.0
    after = own(prepared)
    assert torch.equal(before.pooled, after.pooled)
    assert torch.equal(before.mask, after.mask)
    assert torch.equal(before.tokens[before.mask], after.tokens[after.mask])
    assert before.mask.tolist() == [[True] * 4 + [False] * 3]


def test_null_is_what_dropping_both_gives() -> None:
    own = conditioner().eval()
    prepared = own.prepare({"class_id": torch.tensor([1]), "caption": ["a red chair"]})
    everything = Drop(torch.tensor([True]), torch.tensor([True]), torch.zeros(1, 6, dtype=torch.bool))
    dropped, null = own(own.hide(prepared, everything)), own(own.null(1))
    assert torch.equal(dropped.pooled, null.pooled)
    assert torch.equal(dropped.tokens[dropped.mask], null.tokens[null.mask])
    assert not torch.equal(own(prepared).pooled, null.pooled)


def test_drop_rates() -> None:
    own = conditioner(drop_class=0.3, drop_caption=0.2, drop_both=0.1)
    drop = own.draw_drop(40_000)
    neither = 0.7 * 0.8 * 0.9
    both = 0.1 + 0.9 * 0.3 * 0.2
    # Four standard deviations of a share of 40,000 draws are at most 0.01.
    assert drop.class_id.float().mean().item() == pytest.approx(1 - 0.7 * 0.9, abs=0.01)
    assert drop.caption.float().mean().item() == pytest.approx(1 - 0.8 * 0.9, abs=0.01)
    assert (drop.class_id & drop.caption).float().mean().item() == pytest.approx(both, abs=0.01)
    assert (~drop.class_id & ~drop.caption).float().mean().item() == pytest.approx(neither, abs=0.01)


def test_training_really_drops() -> None:
    """The model must see the null condition in training as often as configured, not only in theory."""
    own = conditioner(drop_class=0.0, drop_caption=0.0, drop_both=0.25, drop_word=0.0)
    size = 2000
    data = {"class_id": torch.ones(size, dtype=torch.int64), "caption": ["a red chair"] * size}
    with torch.no_grad():
        pooled = own(own.prepare(data)).pooled
        null = own(own.null(1)).pooled
        share = torch.isclose(pooled, null, atol=1e-5).all(dim=1).float().mean().item()
        assert share == pytest.approx(0.25, abs=0.04)
        own.eval()
        shown = own(own.prepare(data)).pooled
        assert not torch.isclose(shown, null, atol=1e-5).all(dim=1).any()


def test_words_are_dropped_in_training_alone() -> None:
    own = conditioner(drop_class=0.0, drop_caption=0.0, drop_both=0.0, drop_word=0.2)
    size = 4000
    data = {"class_id": torch.zeros(size, dtype=torch.int64), "caption": ["a red chair"] * size}
    shown = own(own.prepare(data)).mask[:, 1:4].float().mean().item()
    assert shown == pytest.approx(0.8, abs=0.02)
    own.eval()
    assert own(own.prepare(data)).mask[:, 1:4].all()


def test_what_is_hidden_belongs_to_the_sample() -> None:
    """However a batch is cut into micro-batches or shared by ranks, the same words and classes are hidden."""
    own = conditioner(drop_word=0.3)
    data = {"class_id": torch.arange(12) % 2, "caption": ["a tall red chair with thick"] * 12}
    with drawing(7, range(12)):
        whole = own.prepare(data)
    assert not torch.equal(whole["words"], own.eval().prepare(data)["words"])
    own.train()
    for rows in ([0, 1, 2, 3], [11, 5, 8]):
        with drawing(7, rows):
            part = own.prepare({"class_id": data["class_id"][rows], "caption": data["caption"][: len(rows)]})
        for key, value in part.items():
            assert torch.equal(value, whole[key][rows]), key


def test_row_is_the_same_alone_and_in_a_batch() -> None:
    own = conditioner().eval()
    captions = ["a red chair", "tall table with thick legs", "", "legs"]
    together = own(own.prepare({"caption": captions})).pooled
    alone = torch.cat([own(own.prepare({"caption": [caption]})).pooled for caption in captions])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
