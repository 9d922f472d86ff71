"""What must hold of ``sample_triplane`` whatever the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Run = Callable[..., tuple[Tensor, ...]]


def elements_are_independent(run: Run, arguments: tuple[Any, ...]) -> None:
    """Elements of the batch, and points, in another order give the same samples in that order."""
    planes, points, concat, clamp = arguments
    turned = run(planes.flip(0), points.flip(0, 1), concat, clamp)[0]
    assert torch.equal(turned.flip(0, 1), run(*arguments)[0]), "samples depend on the order of points or elements"


def axes_exchange(run: Run, arguments: tuple[Any, ...]) -> None:
    """Points with x and z exchanged see the planes turned about: yz, xz and xy with width and height exchanged."""
    planes, points, _, clamp = arguments
    exchanged = run(planes.flip(1).transpose(-1, -2), points.flip(-1), True, clamp)[0].unflatten(-1, (3, -1))
    expected = run(planes, points, True, clamp)[0].unflatten(-1, (3, -1)) if planes.shape[2] else None
    if expected is not None:
        torch.testing.assert_close(exchanged.flip(-2), expected, msg="planes do not agree on their axes")


def sum_adds_planes(run: Run, arguments: tuple[Any, ...]) -> None:
    """The summed samples are the sum of the concatenated ones."""
    planes, points, _, clamp = arguments
    planes = planes.float()
    apart = run(planes, points, True, clamp)[0].unflatten(-1, (3, planes.shape[2]))
    torch.testing.assert_close(run(planes, points, False, clamp)[0], apart.sum(-2), rtol=1e-5, atol=1e-5)
