"""What must hold of farthest-point sampling whatever computes it."""

from __future__ import annotations

from typing import Any

import torch

from maquette_kernels.points.ragged import spans


def fewer_are_the_first(run: Any, arguments: tuple[Any, ...]) -> None:
    """Asked for fewer, the same points come first."""
    points, count, offsets, start = arguments
    if count > 1:
        (many,), (few,) = run(*arguments), run(points, count - 1, offsets, start)
        assert torch.equal(many[:, :-1], few), "fewer points are others"


def clouds_are_apart(run: Any, arguments: tuple[Any, ...]) -> None:
    """A batch of clouds gives what the clouds give one by one, wherever they lie."""
    points, count, offsets, start = arguments
    (together,) = run(*arguments)
    for row, (first, stop) in zip(together, spans(offsets, len(points)), strict=True):
        (alone,) = run(points[first:stop] + 3.0, count, None, start)
        assert torch.equal(torch.where(alone[0] < 0, -1, alone[0] + first), row), "the choice depends on other clouds"


LAWS = (fewer_are_the_first, clouds_are_apart)
