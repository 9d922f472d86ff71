"""What follows from bits that differ: which rank it was, a record of it, and the way back to a good checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from maquette.engine.anomalies import CORRUPTION, AnomalyGuard
from maquette.engine.replicas import Digest, bits_of, changed, digest, disagreement

if TYPE_CHECKING:
    from maquette.parallel.mesh import Mesh

Record = Callable[..., None]


class Check:
    """What both checks go by.

    Args:
        mesh: the processes.
        guard: decides whether the run may go back once more.
        record: see :meth:`maquette.events.EventLog.add`.
    """

    def __init__(self, mesh: Mesh, guard: AnomalyGuard, record: Record) -> None:
        self.mesh, self.guard, self.record = mesh, guard, record


class ReplicaCheck(Check):
    """Compares the copies of the state that processes hold.

    Of three or more copies the majority tells which is wrong. Of two nobody can say; but the run goes back and makes
    the same steps again, and the one that comes to another result then was wrong before.
    """

    _last_good = 0
    _alone: frozenset[str] = frozenset()  # shards that one process alone holds, as under plain fsdp
    _undecided: tuple[int, list[Digest]] | None = None

    def __call__(self, step: int, named: Mapping[str, Tensor], stage: int = 0) -> None:
        """Compare after optimizer step ``step``; all processes call it together.

        Raises:
            Rollback: copies differ.
            MaquetteError: they still do after the run has gone back several times.
        """
        digests = self._told_apart(self.mesh.gather(digest(named, stage, self._alone)))
        found = disagreement(digests)
        if found is None:
            self._decide(step, digests)
            self._last_good = step
            return
        if not found.suspects:
            self._undecided = (step, digests)
        facts = {"found_by": "replicas", "last_good": self._last_good, "ranks": found.ranks, "wrong": found.suspects}
        self.record(CORRUPTION, step=step, **facts)
        raise self.guard.rollback(CORRUPTION, step, step)

    def _told_apart(self, digests: list[Digest]) -> list[Digest]:
        """Without the shards of which there are no copies; from now on they are not hashed either."""
        holders = Counter(key for one in digests for key in one)
        self._alone |= {key for key, count in holders.items() if count == 1}
        return [{key: value for key, value in one.items() if holders[key] > 1} for one in digests]

    def _decide(self, step: int, digests: list[Digest]) -> None:
        if self._undecided is not None and self._undecided[0] == step:
            wrong = changed(self._undecided[1], digests)
            self.record(CORRUPTION, step=step, found_by="replay", wrong=wrong)
            self._undecided = None


class ReplayCheck(Check):
    """Computes the same thing twice and compares the bits; needs operations that are deterministic."""

    def __call__(self, step: int, compute: Callable[[], list[Tensor]]) -> None:
        """Call ``compute`` twice; all processes call this together.

        Raises:
            Rollback: a process has got different bits.
            MaquetteError: one still does after the run has gone back several times.
        """
        first, second = bits_of(compute()), bits_of(compute())
        wrong = [rank for rank, differs in enumerate(self.mesh.gather(first != second)) if differs]
        if wrong:
            self.record(CORRUPTION, step=step, found_by="replay", wrong=wrong)
            raise self.guard.rollback(CORRUPTION, step, step)
