"""Samples that cannot be read: what stands in for them, and how many are too many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from maquette.errors import MaquetteError
from maquette.progress import say
from maquette_data3d.stream.feed import Feed
from maquette_data3d.stream.order import below, draws

_TRIES = 16
_SUBSTITUTES = 3  # the purpose of these draws, see `order.draws`


class Damage:
    """Counts unreadable samples against a budget.

    Which sample stands in depends on the position alone, so processes stay in step whether or not they meet the damage.
    A sample counts once, however often it comes up.

    Args:
        budget: the share of the training samples that may be unreadable.
        tell: told of each shard that is left out and of each sample that could not be read, for the run's records; see
            :meth:`maquette.events.EventLog.add`.

    Raises:
        MaquetteError: the shards that are known to be damaged hold more than that.
    """

    def __init__(self, feeds: Sequence[Feed], budget: float, tell: Callable[..., None] = lambda *_, **__: None) -> None:
        self.feeds, self.budget, self.tell = list(feeds), budget, tell
        self.total = sum(len(feed) for feed in feeds)
        self.substituted = 0
        self._lock = threading.Lock()
        self._lost: set[tuple[int, int]] = set()
        self._shards: dict[tuple[int, int], str] = {}
        for feed in self.feeds:
            for place in np.flatnonzero(~feed.usable).tolist():
                name = feed.reader.shards[feed.shards[place]].file
                self._count(feed, place, f"shard '{name}' is missing or of a wrong size; its samples are left out")
        self._check()

    @property
    def lost(self) -> int:
        """How many samples are known to be unreadable."""
        return len(self._lost)

    def substitutes(self, source: int, position: int, allowed: np.ndarray) -> np.ndarray:
        """Places in the split to try in the stead of the sample at a position, int64 [16].

        Args:
            allowed: bool [n], which samples of the split may be delivered there.
        """
        found: np.ndarray = np.flatnonzero(allowed)
        numbers = draws(self.feeds[source].seed, _SUBSTITUTES, source, position, np.arange(_TRIES))
        return found[below(numbers, len(found))] if len(found) else found

    def record(self, source: int, place: int, reason: str) -> None:
        """One more sample that could not be read.

        Raises:
            MaquetteError: they are too many now.
        """
        with self._lock:
            self.substituted += 1
            if (source, place) not in self._lost:
                feed = self.feeds[source]
                name = feed.reader.index.value("id", int(feed.numbers[place]))
                shard = feed.reader.shards[feed.shards[place]].file
                self.tell("sample", id=name, shard=shard, reason=reason, lost=len(self._lost) + 1, of=self.total)
            self._count(self.feeds[source], place, f"{reason}; another sample stands in for it")
            self._check()

    def _count(self, feed: Feed, place: int, reason: str) -> None:
        shard = int(feed.shards[place])
        if (feed.source, shard) not in self._shards:
            self._shards[feed.source, shard] = file = feed.reader.shards[shard].file
            if not feed.usable[place]:
                self.tell("shard", shard=file, reason=reason)
            say(f"warning: {reason}")
        self._lost.add((feed.source, place))

    def _check(self) -> None:
        if len(self._lost) > self.budget * self.total:
            names = ", ".join(sorted(self._shards.values())[:8])
            raise MaquetteError(
                f"dataset 'shards': {len(self._lost)} of {self.total} training samples cannot be read, more than "
                f"damage_budget {self.budget:g}; damaged shards: {names}; build or fetch them again"
            )
