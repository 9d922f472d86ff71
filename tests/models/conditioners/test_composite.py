"""Several parts as one condition: each is hidden at its own rate, what is not given is null, rates are kept to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.testing import check_objective
from maquette.types import Mesh, Request
from maquette_models.conditioners.byte_pairs import train_merges
from maquette_models.conditioners.composite import Composite
from maquette_models.conditioners.request_batch import batch_of

MERGES = train_merges(["a red chair", "a blue table"], 270)
PARTS = {
    "text": {"merges": MERGES, "max_tokens": 6, "depth": 1, "heads": 2, "drop": 0.1},
    "class": {"classes": ["chair", "table"], "drop": 0.4},
    "image": {"size": 16, "patch": 8, "depth": 1, "heads": 2, "drop": 0.2},
    "shape": {"tokens": 3, "points": 16, "depth": 1, "heads": 2, "drop": 0.3},
}


def composite(drop_all: float = 0.1, **changes: Any) -> Composite:
    torch.manual_seed(0)
    return plugins.build(
        "conditioners", {"name": "composite", "width": 16, "drop_all": drop_all, "parts": {**PARTS, **changes}}
    )


def given(rows: int) -> dict[str, Any]:
    return {
        "caption": ["a red chair"] * rows,
        "class_id": torch.zeros(rows, dtype=torch.int64),
        "view_rgb": torch.rand(1, 1, 4, 16, 16).expand(rows, 1, 4, 16, 16),
        "surface": torch.rand(1, 16, 3).expand(rows, 16, 3),
        "normals": torch.rand(1, 16, 3).expand(rows, 16, 3),
    }


def test_drop_rates() -> None:
    """Each part at its own rate and all at once at theirs, independently; and nothing is hidden outside training."""
    own, rows = composite(drop_all=0.15), 40_000
    hidden = own.draw_drop(rows)
    for number, part in enumerate(own.parts.values()):
        # Four standard deviations of a share of 40,000 draws are at most .01.
        assert hidden[:, number].float().mean().item() == pytest.approx(1 - 0.85 * (1 - part.drop), abs=0.01)
    nothing = 0.15 + 0.85 * 0.1 * 0.4 * 0.2 * 0.3
    assert hidden.all(dim=1).float().mean().item() == pytest.approx(nothing, abs=0.008)
    everything = 0.85 * 0.9 * 0.6 * 0.8 * 0.7
    assert (~hidden).all(dim=1).float().mean().item() == pytest.approx(everything, abs=0.01)


def test_training_really_drops() -> None:
    """The model sees the null condition in training as often as configured."""
    own, rows = composite(drop_all=0.25, **{k: {**v, "drop": 0.0} for k, v in PARTS.items()}), 1600
    with torch.no_grad():
        pooled, null = own(own.prepare(given(rows))).pooled, own(own.null(1)).pooled
        assert torch.isclose(pooled, null, atol=1e-5).all(dim=1).float().mean().item() == pytest.approx(0.25, abs=0.045)
        shown = own.eval()(own.prepare(given(8))).pooled
        assert not torch.isclose(shown, null, atol=1e-5).all(dim=1).any()


def test_what_is_hidden_belongs_to_the_sample() -> None:
    own, batch = composite(), given(12)
    with drawing(3, range(12)):
        whole = own.prepare(batch)
    with drawing(3, [9, 4]):
        part = own.prepare({key: value[:2] for key, value in batch.items()})
    for key in whole:
        if key.endswith(".known"):
            assert torch.equal(part[key], whole[key][[9, 4]]), key


def test_parts_do_not_meet() -> None:
    """Hiding one part changes its tokens alone."""
    own = composite().eval()
    prepared = own.prepare(given(1))
    hidden = torch.tensor([[False, False, True, False]])
    whole, less = own(prepared), own(own.hide(prepared, hidden))
    start = own.parts["text"].token_count + own.parts["class"].token_count
    end = start + own.parts["image"].token_count
    same = torch.ones(own.token_count, dtype=torch.bool)
    same[start:end] = False
    assert torch.equal(whole.tokens[:, same], less.tokens[:, same]) and torch.equal(
        whole.mask[:, same], less.mask[:, same]
    )
    assert less.mask[0, start:end].tolist() == [True] + [False] * 4


def test_what_a_request_does_not_give_is_null() -> None:
    own = composite().eval()
    by_prompt = own.prepare(batch_of(own, Request("a big red chair")))
    known = {key: bool(value) for key, value in by_prompt.items() if key.endswith(".known")}
    assert known == {"text.known": True, "class.known": True, "image.known": False, "shape.known": False}
    assert by_prompt["class.class_id"].tolist() == [0], "a class named in the prompt sets the class"
    nothing = own.prepare(batch_of(own, Request()))
    assert torch.equal(own(nothing).pooled, own(own.null(1)).pooled)
    mesh = Mesh([[0, 0, 0], [0.4, 0, 0], [0, 0.4, 0], [0, 0, 0.4]], [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    picture = np.full((20, 10, 4), 255, np.uint8)
    both = own.prepare(batch_of(own, Request(images=(picture,), mesh=mesh)))
    assert both["image.known"].all() and both["shape.known"].all() and not both["text.known"].any()
    assert both["shape.points"].shape == (1, 16, 6)


def test_requests_that_a_run_cannot_use_are_refused() -> None:
    text = plugins.build("conditioners", {"name": "text", "width": 16, "merges": MERGES, "heads": 2})
    for request, word in (
        (Request(images=(np.zeros((4, 4, 3), np.uint8),)), "pictures"),
        (Request(mesh=Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])), "mesh"),
        (Request(class_name="chair"), "class"),
    ):
        with pytest.raises(MaquetteError, match=f"cannot use .*{word}.*it takes a prompt"):
            batch_of(text, request)
    with pytest.raises(MaquetteError, match="chair"):
        batch_of(composite(), Request(class_name="chiar"))


def test_composites_that_cannot_be_are_refused() -> None:
    with pytest.raises(MaquetteError, match="no parts"):
        plugins.build("conditioners", {"name": "composite"})
    with pytest.raises(MaquetteError, match="cannot be a part"):
        composite(other={"name": "class_caption", "heads": 2})


def test_a_generator_trains_on_it() -> None:
    """The loss reaches every weight, and a pipeline's halves give what the whole gives."""
    block = {"name": "dit", "width": 24, "heads": 2, "depth": 2, "patch": 4}
    model = plugins.build(
        "architectures", {**block, "conditioner": {"name": "composite", "width": 16, "parts": dict(PARTS)}}
    )
    batch = {"latent": torch.randn(4, 7, 8, 8, 8), **given(4)}
    with torch.no_grad():
        for layer in (model.modulation, model.head_modulation, model.head):
            torch.nn.init.normal_(layer.weight, std=0.1)
    check_objective(model, plugins.build("objectives", {"name": "flow_matching"}), batch)
    assert model.flops(batch) > 0
