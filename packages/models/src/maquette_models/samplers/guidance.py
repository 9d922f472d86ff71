"""Classifier-free guidance, Ho & Salimans 2022, within an interval of times, Kynkaanniemi et al. 2024."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Guided:
    """A velocity field that is pushed away from the unconditional one.

    Args:
        model: `model(x, t [B], condition)`.
        condition: tensors with leading B.
        null: the same for no condition at all.
        scale: [B]; 1 is the conditional velocity itself.
        interval: guidance acts where start <= t <= end.
    """

    model: nn.Module
    condition: Mapping[str, Tensor]
    null: Mapping[str, Tensor]
    scale: Tensor
    interval: tuple[float, float] = (0.0, 1.0)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The guided velocity of x [B,...] at a scalar time; one forward pass of 2B rows inside the
        interval."""
        rows = len(x)
        start, end = self.interval
        if not start <= float(t) <= end or bool((self.scale == 1).all()):
            return self.model(x, t.expand(rows), self.condition)
        both = {key: torch.cat([value, self.null[key]]) for key, value in self.condition.items()}
        with_condition, without = self.model(torch.cat([x, x]), t.expand(2 * rows), both).chunk(2)
        push = (self.scale - 1).view(-1, *[1] * (x.ndim - 1))
        return with_condition + push * (with_condition - without)
