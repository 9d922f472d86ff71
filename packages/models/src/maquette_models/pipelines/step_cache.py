"""Steps that take over the velocity of the step before, where it has hardly changed: row by row, and only if asked for.

The gate of Zhou et al., "Less is Enough: Training-Free Video Diffusion Acceleration via Runtime-Adaptive Caching",
2025: how fast the output changes with the input is measured at the last two evaluations; while the input has moved so
little since that the output should not have changed by more than a tolerance, it is not evaluated. Gates over whole
batches (as in other caches) would let a neighbour change the result; here everything is of one row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maquette_models.samplers.sampler import Velocity

TOLERANCE = "cache"
"""The option of a request: the relative change of the velocity that is let pass, e.g. 0.1; 0, or none, never skips."""


@dataclass(frozen=True)
class StepCache:
    """What one flow remembers of its last evaluation.

    Args:
        tolerance: the relative change of the velocity that is let pass.
        x: [1,...] where it was, None before the first.
        velocity: [1,...], guided, there.
        rate: by how much the velocity changed for each unit that x moved, None before the second.
        skipped: evaluations that were not made.
    """

    tolerance: float
    x: Tensor | None = None
    velocity: Tensor | None = None
    rate: float | None = None
    skipped: int = 0

    def evaluated(self, x: Tensor, velocity: Tensor) -> StepCache:
        """After an evaluation."""
        rate = None
        if self.x is not None and self.velocity is not None:
            rate = norm(velocity - self.velocity) / max(norm(x - self.x), 1e-12)
        return StepCache(self.tolerance, x, velocity, rate, self.skipped)

    def reused(self) -> StepCache:
        """After a step that took the velocity over."""
        return StepCache(self.tolerance, self.x, self.velocity, self.rate, self.skipped + 1)

    def serves(self, x: Tensor) -> bool:
        """Whether the velocity at x is near enough to the one that is remembered."""
        if self.x is None or self.velocity is None or self.rate is None:
            return False
        change = self.rate * norm(x - self.x) / max(norm(self.velocity), 1e-12)
        return change <= self.tolerance


class FirstVelocity:
    """A velocity field that remembers the first of its values."""

    def __init__(self, field: Velocity) -> None:
        self.field = field
        self.first = torch.empty(0)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity of x [B,...] at times [B]."""
        velocity = self.field(x, t)
        if not len(self.first):
            self.first = velocity
        return velocity


def norm(x: Tensor) -> float:
    """Of all numbers of one row, in float64: so that a near decision is the same however x lies in memory."""
    return float(x.double().norm())
