"""Tokens of a shape that begin at its points."""

from __future__ import annotations

import pytest
import torch

from maquette import plugins
from maquette.errors import MaquetteError


def test_tokens_begin_at_points_far_from_each_other() -> None:
    """With nothing read from elsewhere, a token is its point; the points of a cloud are all its tokens."""
    torch.manual_seed(0)
    block = {"name": "shape", "anchored": True, "tokens": 12, "points": 12, "width": 32, "depth": 0, "heads": 2}
    shape = plugins.build("conditioners", block).eval()
    with torch.no_grad():
        shape.queries.zero_()
        shape.out.weight.zero_()
        shape.out.bias.zero_()
    points = torch.rand(2, 12, 6) - 0.5
    tokens, _ = shape.encode({"points": points})
    expected = shape.point_norm(shape.embed(shape.features(points)))
    assert torch.cdist(tokens, expected).amin(dim=2).max() < 1e-3
    assert torch.cdist(expected, tokens).amin(dim=2).max() < 1e-3


def test_the_condition_of_nothing_is_finite() -> None:
    shape = plugins.build("conditioners", {"name": "shape", "anchored": True, "width": 32}).eval()
    condition = shape(shape.null(2))
    assert condition.tokens.isfinite().all() and condition.mask.sum() == 2


def test_more_tokens_than_points_are_refused() -> None:
    with pytest.raises(MaquetteError, match="anchored"):
        plugins.build("conditioners", {"name": "shape", "anchored": True, "tokens": 9, "points": 8})
