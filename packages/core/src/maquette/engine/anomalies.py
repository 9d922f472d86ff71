"""What happens to a step that looks wrong: it is left out, and after several in a row the run goes back.

A step is judged before the optimizer sees its gradient, so a single bad batch costs nothing but itself. A row of bad
steps says that the weights have gone astray (or that a stretch of the data is bad), which leaving out cannot mend: the
run goes back to a checkpoint, leaves out the row and what led to it, and makes all other steps as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from maquette.parallel.mesh import Mesh

NONFINITE, SPIKE, CORRUPTION = "nonfinite", "spike", "corruption"
"""Kinds of trouble, as the records name them."""

REASONS = {
    NONFINITE: "losses or gradients that are not finite",
    SPIKE: "losses far above those before",
    CORRUPTION: "state that was not computed by the program (silent corruption)",
}


class Rollback(Exception):
    """Go back to a good checkpoint, with the data where it was then, and leave out some of the steps that follow.

    The :class:`AnomalyGuard` itself is kept, not loaded, so that it knows what was tried.

    Attributes:
        kind: one of the kinds of trouble.
        step: the optimizer step that could not be made.
        first: the first of the row of bad steps.
        attempt: how often the run has gone back for this row, this time included.
    """

    def __init__(self, kind: str, step: int, first: int, attempt: int = 1) -> None:
        super().__init__(f"steps {first} to {step} had {REASONS[kind]}")
        self.kind, self.step, self.first, self.attempt = kind, step, first, attempt

    def left_out(self, start: int) -> range:
        """The steps that are not made again, going on from step ``start``.

        First the row and as many steps before it, whose updates may have led to it; if that does not help, all from
        the checkpoint on. Corruption is no fault of the data's.
        """
        if self.kind == CORRUPTION:
            return range(0)
        lead = self.step - self.first + 1
        return range(max(start, self.first - lead) if self.attempt == 1 else start, self.step + 1)


def all_finite(loss: Tensor, norm: Tensor, mesh: Mesh | None = None) -> tuple[bool, float]:
    """Whether loss and gradient norm are finite on every process, and the mean loss; all get the same answer.

    One all-reduce of one number and one copy to the host.

    Args:
        loss: scalar, this process's.
        norm: scalar, of the whole gradient.
        mesh: of all processes; none for one process.
    """
    # A sum with anything in it that is not finite is not finite itself, and 0 times such a norm is none either.
    share = (loss.detach().float() + 0 * norm) / (mesh.world if mesh else 1)
    mean = float(mesh.sum(share) if mesh else share)
    return math.isfinite(mean), mean


class AnomalyGuard:
    """Counts steps that look wrong and decides what to do. Holds no tensors.

    Args:
        skips: how many in a row are left out; one more is a :class:`Rollback`. 0 makes the first one that is not finite
            an error.
        rollbacks: how often the run may go back without getting any further; one more is an error.
    """

    def __init__(self, skips: int, rollbacks: int = 3) -> None:
        self.skips, self.rollbacks = skips, rollbacks
        self.row = 0
        """Bad steps in a row, now."""
        self.skipped = 0
        """Steps that were judged and left out, in all."""
        self.furthest = -1
        """The furthest step that the run has gone back from."""
        self.tries = 0
        """Rollbacks since the run last got further than that."""
        self.left_out: set[int] = set()
        """Steps that are not made when the run comes by again."""

    def admit(self, step: int, trouble: str = "") -> bool:
        """Whether optimizer step ``step`` (from 0) may be made.

        Where it may not, drop the gradients and go on with the next batch: weights, optimizer and averages stay as they
        are.

        Args:
            step: the one under way.
            trouble: NONFINITE, SPIKE, or nothing.

        Returns:
            True also for a spike that stays after the run has gone back: the losses have come to another level.

        Raises:
            Rollback: too many bad steps in a row.
            MaquetteError: a step was not finite, and skipping is turned off or going back has not helped.
        """
        if not trouble:
            self.row = 0
            return True
        if self.skips == 0 and trouble == NONFINITE:
            raise MaquetteError(f"step {step}: the loss or the gradient is not finite; {ADVICE}")
        self.row += 1
        if self.row <= self.skips:
            self.skipped += 1
            return False
        first, self.row = step - self.skips, 0
        if trouble == SPIKE and self._again(first):
            return True
        raise self.rollback(trouble, step, first)

    def rollback(self, trouble: str, step: int, first: int) -> Rollback:
        """Count one more time of going back, to be raised.

        Raises:
            MaquetteError: it was tried too often.
        """
        self.tries = self.tries + 1 if self._again(first) else 1
        self.furthest = max(step, self.furthest)
        if self.tries > self.rollbacks:
            advice = "have the machine checked" if trouble == CORRUPTION else ADVICE
            raise MaquetteError(
                f"step {step}: {REASONS[trouble]}, also after going back {self.rollbacks} times; {advice}"
            )
        return Rollback(trouble, step, first, self.tries)

    def _again(self, first: int) -> bool:
        """Whether a row of bad steps is the same trouble as the last: it begins before, or soon after, its end."""
        return self.furthest >= 0 and first <= self.furthest + 2 * (self.skips + 1)

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        counts = {key: getattr(self, key) for key in ("row", "skipped", "furthest", "tries")}
        return {**counts, "left_out": sorted(self.left_out)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`, when a run is resumed."""
        for key in ("row", "skipped", "furthest", "tries"):
            setattr(self, key, int(state[key]))
        self.left_out = set(state.get("left_out", ()))


ADVICE = "the weights are untouched: lower optimizer.learning_rate or check the data"
