"""Who holds the others up: ranks compared by the time that they spend themselves, not waiting for each other.

In a step all ranks end together, since they wait for the slowest in their collectives. What tells them apart is the
rest: waiting for data and computing. A rank's score is the best such time over its own; at .75 it works at three
quarters of the best one's speed. Medians over an interval, and over both its halves, keep a compilation, a validation
or a slow checkpoint from counting.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DATA, COMPUTE, COMMUNICATION = "data", "compute", "communication"

COST = 0.05
"""A rank is no straggler whose excess is less than this share of the step: nobody would notice."""

PRESSED = 20.0
"""Percent of the time that some task waited for a disk, or a processor, above which that is told as a likely cause."""
CAUSES = {DATA: ("io", "disks"), COMPUTE: ("cpu", "processors"), COMMUNICATION: ("cpu", "processors")}

Records = Mapping[int, Sequence[Mapping[str, Any]]]
"""The journal's records of an interval, by rank."""


@dataclass(frozen=True)
class Straggler:
    """A rank that is slow.

    Attributes:
        rank: which.
        host: the machine it is on.
        part: ``data``, ``compute`` or ``communication``.
        score: its speed over the one it is measured by.
        against: ``rank 3``, or ``its own best``.
        note: what else was seen.
    """

    rank: int
    host: str
    part: str
    score: float
    against: str
    note: str = ""

    @property
    def line(self) -> str:
        """In words."""
        note = f" ({self.note})" if self.note else ""
        return f"rank {self.rank} on {self.host} is slow in {self.part}: {self.score:.2f} of {self.against}{note}"


@dataclass(frozen=True)
class Shares:
    """Median seconds of a step of one rank."""

    data: float
    compute: float
    communication: float

    @property
    def own(self) -> float:
        """Without waiting for others."""
        return self.data + self.compute

    @property
    def total(self) -> float:
        """Of the whole step."""
        return self.own + self.communication


class StragglerScores:
    """Judges the ranks of a run, interval by interval.

    Args:
        limit: scores below it are of stragglers.
    """

    def __init__(self, limit: float = 0.75) -> None:
        self.limit = limit
        self.scores: dict[int, float] = {}
        """Of the last interval, against the best rank of the same work."""
        self._best: dict[int, Shares] = {}

    def judge(self, records: Records) -> list[Straggler]:
        """The stragglers of an interval; fewer than four readings with steps of a rank say nothing of it."""
        told = {rank: [r for r in rows if r.get("step_times", {}).get("count")] for rank, rows in records.items()}
        told = {rank: rows for rank, rows in told.items() if len(rows) >= 4}
        self.scores = {}
        found: list[Straggler] = []
        for work in {rows[-1].get("work", 0) for rows in told.values()}:
            group = {rank: rows for rank, rows in told.items() if rows[-1].get("work", 0) == work}
            found += self._among(group)
        blamed = {straggler.rank for straggler in found}
        for rank, rows in told.items():
            if rank not in blamed and (own := self._by_itself(rank, rows, bool(blamed))):
                found.append(own)
        return sorted(found, key=lambda straggler: straggler.rank)

    def _among(self, group: Mapping[int, Sequence[Mapping[str, Any]]]) -> list[Straggler]:
        """Ranks that do the same work, against the best of them."""
        whole = {rank: shares(rows) for rank, rows in group.items()}
        best = min(whole, key=lambda rank: whole[rank].own)
        found = []
        for rank, spent in whole.items():
            self.scores[rank] = ratio(whole[best].own, spent.own)
            speeds = [ratio(b.own, o.own) for b, o in zip(spans(group[best]), spans(group[rank]), strict=True)]
            excess = spent.own - whole[best].own
            if max(speeds) < self.limit and excess > COST * spent.total:
                part = costliest(spent, whole[best])
                found.append(straggler(rank, group[rank], part, self.scores[rank], f"rank {best}"))
        return found

    def _by_itself(self, rank: int, rows: Sequence[Mapping[str, Any]], explained: bool) -> Straggler | None:
        """A rank against its own best interval; waiting that another straggler explains is not its fault."""
        now = shares(rows)
        best = self._best.get(rank)
        if best is None or now.total < best.total:
            self._best[rank] = now
            return None
        parts = spans(rows)
        if max(ratio(best.own, part.own) for part in parts) < self.limit and now.own - best.own > COST * now.total:
            return straggler(rank, rows, costliest(now, best), ratio(best.own, now.own), "its own best")
        if not explained and max(ratio(best.total, part.total) for part in parts) < self.limit:
            return straggler(rank, rows, COMMUNICATION, ratio(best.total, now.total), "its own best")
        return None


def costliest(spent: Shares, best: Shares) -> str:
    """The part of a rank's own time that grew the most."""
    return DATA if spent.data - best.data > spent.compute - best.compute else COMPUTE


def straggler(rank: int, rows: Sequence[Mapping[str, Any]], part: str, score: float, against: str) -> Straggler:
    """With a hint where tasks of its machine had to wait."""
    name, what = CAUSES[part]
    pressure = statistics.median(row.get("host_values", {}).get(f"host_pressure_{name}", 0.0) for row in rows)
    note = f"tasks waited for {what} {pressure:.0f} % of the time" if pressure > PRESSED else ""
    return Straggler(rank, str(rows[-1].get("host", "?")), part, round(score, 3), against, note)


def shares(rows: Sequence[Mapping[str, Any]]) -> Shares:
    """Medians over readings, which are medians over steps."""
    times = [row["step_times"] for row in rows]
    return Shares(*(statistics.median(row[part] for row in times) for part in (DATA, COMPUTE, COMMUNICATION)))


def spans(rows: Sequence[Mapping[str, Any]]) -> list[Shares]:
    """Of all readings, of the first half and of the second."""
    half = len(rows) // 2
    return [shares(rows), shares(rows[:half]), shares(rows[half:])]


def ratio(best: float, own: float) -> float:
    """A score; 1 where nothing was spent."""
    return best / own if own > 0 else 1.0
