"""What must hold of ``sample_sparse_trilinear`` whatever the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Run = Callable[..., tuple[Tensor, ...]]


def permuting(run: Run, arguments: tuple[Any, ...]) -> None:
    """The order of voxels does not matter, and that of points is that of the samples."""
    features, coords, points, batch, renormalise = arguments
    turned = run(
        features.flip(0), coords.flip(0), points.flip(0), None if batch is None else batch.flip(0), renormalise
    )
    expected = run(*arguments)
    assert torch.equal(turned[0].flip(0), expected[0]), "samples depend on the order of voxels or points"


def translating(run: Run, arguments: tuple[Any, ...]) -> None:
    """Voxels and points moved together by whole voxels, where that is exact in float32."""
    features, coords, points, batch, renormalise = arguments
    if coords.numel() == 0 or coords[:, 1:].abs().max() > 2000:
        return
    step = torch.tensor([5, -3, -7], dtype=torch.int32, device=coords.device)
    points = (points * 16).round() / 16
    moved = coords.clone()
    moved[:, 1:] += step
    expected = run(features, coords, points, batch, renormalise)[0]
    assert torch.equal(run(features, moved, points + step, batch, renormalise)[0], expected), "moving changes samples"


def concatenating(run: Run, arguments: tuple[Any, ...]) -> None:
    """Two batches one after the other give what each gives alone."""
    features, coords, points, batch, renormalise = arguments
    if batch is None:
        batch = coords.new_zeros(len(points))
    shift = 1 + int(coords[:, 0].max()) if coords.numel() else 1
    batch = torch.where(batch < shift, batch, -1)  # an element without voxels now would have some then
    later = coords.clone()
    later[:, 0] += shift
    after = torch.where(batch < 0, -1, batch + shift)
    alone = run(features, coords, points, batch, renormalise)[0]
    both = run(
        *(torch.cat(pair) for pair in ((features, -features), (coords, later), (points, points), (batch, after))),
        renormalise,
    )
    assert torch.equal(both[0], torch.cat([alone, -alone])), "elements of a batch are not independent"
