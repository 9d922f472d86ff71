"""What every part of a condition holds to: nothing given is null, training really hides it, rows do not meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maquette import plugins
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette_models.conditioners.byte_pairs import train_merges
from maquette_models.conditioners.condition import Part

CAPTIONS = ["a red chair", "a tall red table", "a chair with thick legs", "a blue lamp"]
BLOCKS: dict[str, dict[str, Any]] = {
    "text": {"name": "text", "merges": train_merges(CAPTIONS, 280), "max_tokens": 8, "depth": 1, "heads": 2},
    "class": {"name": "class", "classes": ["chair", "table"]},
    "image": {"name": "image", "size": 16, "patch": 8, "depth": 1, "heads": 2},
    "views": {"name": "views", "max_views": 3, "size": 16, "patch": 8, "depth": 1, "heads": 2},
    "shape": {"name": "shape", "tokens": 4, "points": 32, "depth": 1, "heads": 2},
}


def built(kind: str, **changes: Any) -> Part:
    torch.manual_seed(0)
    return plugins.build("conditioners", {"width": 16, **BLOCKS[kind], **changes})


def given(rows: int) -> dict[str, Any]:
    """A batch that has everything, each row something of its own."""
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(rows, 1, 4, 16, 16, generator=generator)
    points = torch.rand(rows, 32, 3, generator=generator) - 0.5
    return {
        "caption": [CAPTIONS[row % len(CAPTIONS)] for row in range(rows)],
        "class_id": torch.arange(rows) % 2,
        "view_rgb": pictures,
        "surface": points,
        "normals": torch.nn.functional.normalize(points, dim=-1),
    }


@pytest.mark.parametrize("kind", BLOCKS)
def test_shapes_and_counts(kind: str) -> None:
    own = built(kind).eval()
    tokens, mask, pooled = own(own.prepare(given(3)))
    assert tokens.shape == (3, own.token_count, 16) and mask.shape == tokens.shape[:2] and pooled.shape == (3, 16)
    assert mask.dtype == torch.bool and mask[:, 0].all() and mask.sum() > 3
    assert own.flops(2) == 2 * own.flops(1) > 0
    example = own(own.prepare(own.example_batch(2)))
    assert example.tokens.shape == (2, own.token_count, 16)


@pytest.mark.parametrize("kind", BLOCKS)
def test_what_is_hidden_is_null(kind: str) -> None:
    """A hidden condition differs in nothing that counts from none, and one that is there differs from none."""
    own = built(kind).eval()
    prepared = own.prepare(given(2))
    hidden, null, shown = own(own.hide(prepared, torch.tensor([True, False]))), own(own.null(2)), own(prepared)
    assert null.mask.sum(dim=1).tolist() == [1, 1]
    assert torch.equal(hidden.mask[0], null.mask[0]) and torch.equal(hidden.mask[1], shown.mask[1])
    assert torch.equal(hidden.tokens[0][hidden.mask[0]], null.tokens[0][null.mask[0]])
    assert torch.equal(hidden.pooled[0], null.pooled[0])
    assert not torch.allclose(shown.pooled, null.pooled, atol=1e-3)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_batch_without_it_is_null(kind: str) -> None:
    own = built(kind).eval()
    absent = own(own.prepare({"id": ["a", "b"]}))
    assert torch.equal(absent.pooled, own(own.null(2)).pooled)
    with pytest.raises(MaquetteError, match="empty batch"):
        own.prepare({})


@pytest.mark.parametrize("kind", BLOCKS)
def test_training_really_hides_it(kind: str) -> None:
    """As often as configured, sample by sample, and never outside training."""
    own = built(kind, drop=0.25)
    rows = 1600
    batch = {key: value for key, value in given(rows).items() if key != "view_rgb"} | {
        "view_rgb": torch.ones(1, 1, 4, 1, 1).expand(rows, 1, 4, 1, 1)
    }
    hidden = ~own.prepare(batch)["known"]
    # Four standard deviations of a share of 1,600 draws at .25 are .043.
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.045)
    assert own.eval().prepare(batch)["known"].all()
    assert not (~built(kind, drop=0.0).prepare(batch)["known"]).any()


@pytest.mark.parametrize("kind", BLOCKS)
def test_what_is_drawn_belongs_to_the_sample(kind: str) -> None:
    """However a batch is cut, the same samples are hidden and augmented alike."""
    own, batch = built(kind, drop=0.5), given(8)
    with drawing(7, range(8)):
        whole = own.prepare(batch)
    rows = [6, 1, 2]
    part = {
        key: value[rows] if isinstance(value, torch.Tensor) else [value[i] for i in rows]
        for key, value in batch.items()
    }
    with drawing(7, rows):
        again = own.prepare(part)
    assert 0 < int(whole["known"].sum()) < 8
    for key, value in again.items():
        assert torch.equal(value, whole[key][rows]), key


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_row_is_the_same_alone(kind: str) -> None:
    own, batch = built(kind).eval(), given(4)
    together = own(own.prepare(batch))
    for row in range(4):
        alone = own(own.prepare({key: value[row : row + 1] for key, value in batch.items()}))
        torch.testing.assert_close(alone.tokens[0], together.tokens[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_loss_reaches_every_weight(kind: str) -> None:
    own = built(kind)
    tokens, mask, pooled = own(own.prepare(given(4)))
    (tokens[mask].square().sum() + pooled.square().sum()).backward()
    assert not [name for name, value in own.named_parameters() if value.grad is None]


def test_odd_settings_are_refused() -> None:
    with pytest.raises(MaquetteError, match="heads"):
        built("shape", heads=3)
    with pytest.raises(MaquetteError, match="share"):
        built("class", drop=1.5)
    with pytest.raises(MaquetteError, match="patch"):
        built("image", size=20)
    with pytest.raises(MaquetteError, match="2 classes"):
        built("class").prepare({"class_id": torch.tensor([2])})
