"""What happens to a step whose loss or gradient is not finite: it is skipped, and after several the run goes back.

The optimizer never sees such a gradient, so the weights stay good; a row of them says that the run itself has gone
astray (or that a stretch of the data is bad), which skipping cannot mend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from maquette.parallel.mesh import Mesh


class Rollback(Exception):
    """Go back to the last good checkpoint, but go on with the data *after* the bad batches.

    Whoever catches it takes the data's position as it is now, loads weights, optimizer and averages of the checkpoint,
    and sets the data to that position: the samples between the checkpoint and the bad batches are not seen again. The
    :class:`AnomalyGuard` itself is kept, not loaded, so that it knows what was tried.

    Attributes:
        step: the optimizer step that could not be made.
        first: the first of the row of bad steps.
    """

    def __init__(self, step: int, first: int) -> None:
        super().__init__(f"steps {first} to {step} had losses or gradients that are not finite")
        self.step, self.first = step, first


def all_finite(loss: Tensor, norm: Tensor, mesh: Mesh | None = None) -> bool:
    """Whether loss and gradient norm are finite on every process; all processes get the same answer.

    One all-reduce and one copy to the host.

    Args:
        loss: scalar, this process's.
        norm: scalar, of the whole gradient.
        mesh: of all processes; none for one process.
    """
    bad = (~torch.isfinite(loss.detach().float() + norm)).float()
    return not bool(mesh.sum(bad) if mesh else bad)


class AnomalyGuard:
    """Counts steps that are not finite and decides what to do. Holds no tensors.

    Args:
        skips: how many in a row are skipped; one more is a :class:`Rollback`. 0 makes the first one an error.
        rollbacks: how often the run may go back without getting any further; one more is an error.
    """

    def __init__(self, skips: int, rollbacks: int = 3) -> None:
        self.skips, self.rollbacks = skips, rollbacks
        self.row = 0
        """Bad steps in a row, now."""
        self.skipped = 0
        """Steps skipped in all."""
        self.furthest = -1
        """The furthest step that could not be made in spite of skipping."""
        self.tries = 0
        """Rollbacks since the run last got further than that."""

    def admit(self, step: int, finite: bool) -> bool:
        """Whether optimizer step ``step`` (from 0) may be made.

        Where it may not, drop the gradients and go on with the next batch: weights, optimizer and averages stay as they
        are.

        Raises:
            Rollback: too many bad steps in a row.
            MaquetteError: skipping is turned off, or going back has not helped.
        """
        if finite:
            self.row = 0
            return True
        if self.skips == 0:
            raise MaquetteError(f"step {step}: the loss or the gradient is not finite; {ADVICE}")
        self.row += 1
        if self.row <= self.skips:
            self.skipped += 1
            return False
        first, self.row = step - self.skips, 0
        self.tries = self.tries + 1 if step <= self.furthest else 1
        self.furthest = max(step, self.furthest)
        if self.tries > self.rollbacks:
            raise MaquetteError(
                f"step {step}: losses or gradients are not finite, also after going back {self.rollbacks} times and "
                f"skipping the data; {ADVICE}"
            )
        raise Rollback(step, first)

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {key: getattr(self, key) for key in ("row", "skipped", "furthest", "tries")}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`, when a run is resumed."""
        for key, value in state.items():
            setattr(self, key, int(value))


ADVICE = "the weights are untouched: lower optimizer.learning_rate or check the data"
