"""What must hold of nearest neighbours whatever computes them."""

from __future__ import annotations

from typing import Any

import torch

from maquette_kernels.points.ragged import spans


def fewer_are_the_first(run: Any, arguments: tuple[Any, ...]) -> None:
    """With a smaller k the same neighbours come first."""
    queries, points, k, *offsets = arguments
    if k > 1:
        many, few = run(*arguments), run(queries, points, k - 1, *offsets)
        assert all(torch.equal(a[:, :-1], b) for a, b in zip(many, few, strict=True)), "fewer neighbours are others"


def clouds_are_apart(run: Any, arguments: tuple[Any, ...]) -> None:
    """A batch of clouds gives what the clouds give one by one, wherever they lie (on a lattice exactly) and in any
    order of queries.
    """
    queries, points, k, query_offsets, point_offsets = arguments
    together = run(*arguments)
    clouds = zip(spans(query_offsets, len(queries)), spans(point_offsets, len(points)), strict=True)
    for (first, last), (start, stop) in clouds:
        squared, number = run(queries[first:last].flip(0) + 3.0, points[start:stop] + 3.0, k, None, None)
        number = torch.where(number < 0, number, number + start).flip(0)
        assert torch.equal(squared.flip(0), together[0][first:last]), "the distances of a cloud depend on the others"
        assert torch.equal(number, together[1][first:last]), "the neighbours of a cloud depend on the others"


LAWS = (fewer_are_the_first, clouds_are_apart)
