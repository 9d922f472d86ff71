"""Who goes next. Plain decisions on plain numbers: no clock, no threads, no models.

Jobs of one level share the device by how much of it they have had, so that short ones pass long ones (least attained
service); a job rises a level for each `ageing` seconds that it has been here, so that none is passed for ever.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Turn(Protocol):
    """What the scheduler knows of a job that waits for its next step."""

    priority: int
    client: str
    arrived: float
    served: float
    """Seconds of the device that it has had."""
    number: int
    """Its place in the order of arrival."""

    @property
    def key(self) -> Hashable | None:
        """Jobs of one key can take their step together; None for a piece of work of its own."""

    @property
    def rows(self) -> int:
        """Of a forward pass, that its step takes."""

    @property
    def most_rows(self) -> int:
        """Of a forward pass that is worth its time with its step in it, and for which there is memory."""


@dataclass
class Scheduler:
    """Chooses the jobs of the next pass, and notes what they have had.

    Args:
        rows: the most rows of a pass.
        ageing: seconds after which a job counts as one level of priority higher.
    """

    rows: int = 16
    ageing: float = 20.0
    _had: dict[str, float] = field(default_factory=dict)
    _after_pass: bool = False

    def arrive(self, client: str, others: Iterable[str]) -> None:
        """A client that had no work has some; `others` have work already.

        One that was away is put beside the one of them that has had least: absence earns nothing.
        """
        present = [self._had.get(other, 0.0) for other in others if other != client]
        floor = min(present, default=self._had.get(client, 0.0))
        self._had[client] = max(self._had.get(client, 0.0), floor)

    def leave(self, client: str) -> None:
        """A client has no work any more, and no other client can be compared with it."""
        self._had.pop(client, None)

    def pick(self, ready: Sequence[Turn], now: float) -> list[Turn]:
        """The jobs of the next pass, of one key, the most urgent first; a job with a key of None comes alone.

        Pieces of work (keys of None) end a job, and then its memory is free: after each pass one of them has a turn,
        unless a job of a higher level waits.

        Args:
            ready: jobs that wait for a step.
            now: seconds, on the clock of `arrived`.
        """
        order = sorted(ready, key=lambda turn: self.urgency(turn, now))
        first = next(iter(order), None)
        if first is not None and self._after_pass:
            level = self.urgency(first, now)[0]
            pieces = (turn for turn in order if turn.key is None and self.urgency(turn, now)[0] == level)
            first = next(pieces, first)
        self._after_pass = first is not None and first.key is not None
        if first is None or first.key is None:
            return [] if first is None else [first]
        most = max(min(self.rows, first.most_rows), first.rows)
        chosen, rows = [], 0
        for turn in order:
            if turn.key == first.key and rows + turn.rows <= most:
                chosen.append(turn)
                rows += turn.rows
        return chosen

    def charge(self, turns: Sequence[tuple[Turn, int]], seconds: float) -> None:
        """The jobs of a pass have had it, each by its rows."""
        rows = sum(own for _, own in turns)
        for turn, own in turns:
            share = seconds * own / rows
            turn.served += share
            self._had[turn.client] = self._had.get(turn.client, 0.0) + share

    def urgency(self, turn: Turn, now: float) -> tuple[float, float, float, int]:
        """The job with the least of it goes first."""
        level = turn.priority + (now - turn.arrived) // self.ageing
        return -level, self._had.get(turn.client, 0.0), turn.served, turn.number
