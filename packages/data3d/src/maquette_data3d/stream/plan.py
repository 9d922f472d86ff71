"""The plan of the whole training: which samples make up the next batch of all processes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.stream.curriculum import Curriculum, Stage
from maquette_data3d.stream.feed import Feed
from maquette_data3d.stream.mixture import Mixture

_DRAWN_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Position:
    """Where the stream stands; the same on every process.

    Attributes:
        consumed: samples delivered to all processes together.
        positions: how far each source's endless epochs have been gone through.
        drawn: samples of each source since its weights last changed.
        pending: int64 [n, 3], (source, position, place in its split) of samples that were drawn and wait for their
            bucket to fill, in the order in which they were drawn.
        passed_over: samples left out because they were too large for the curriculum or lay in damaged shards.
    """

    consumed: int
    positions: tuple[int, ...]
    drawn: tuple[int, ...]
    pending: np.ndarray
    passed_over: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of all processes together: `source`, `position`, `place` int64 [n], `place` in the source's split.

    `first` is the place of its first sample in the endless sequence of all sources together.
    """

    source: np.ndarray
    position: np.ndarray
    place: np.ndarray
    stage: Stage
    first: int = 0

    def share(self, rank: int, world: int) -> Batch:
        """The rows of one process."""
        own = len(self.source) // world
        rows = slice(rank * own, (rank + 1) * own)
        return Batch(self.source[rows], self.position[rows], self.place[rows], self.stage, self.first + rank * own)


@dataclass(frozen=True)
class Buckets:
    """Batch sizes by size of sample.

    Attributes:
        edges: rising; a sample belongs to the first bucket whose edge is not below its tokens.
        sizes: samples a batch in each bucket.
    """

    edges: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def even(cls, edges: Sequence[int], tokens_per_batch: int, divisible_by: int) -> Buckets:
        """Batches of at most `tokens_per_batch`, each size a multiple of `divisible_by`."""
        if list(edges) != sorted(set(edges)) or edges[0] < 1 or divisible_by < 1:
            raise MaquetteError(f"dataset 'shards': buckets {list(edges)} must rise, divisible_by be at least 1")
        sizes = tuple(tokens_per_batch // edge // divisible_by * divisible_by for edge in edges)
        if not sizes[-1]:
            least = edges[-1] * divisible_by
            raise MaquetteError(f"dataset 'shards': tokens_per_batch {tokens_per_batch}; needs at least {least}")
        return cls(tuple(edges), sizes)

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """The bucket of each sample, int64."""
        return np.searchsorted(np.asarray(self.edges), tokens)


class Plan:
    """Gives the next batch as a pure function of a position, so that processes agree without a word.

    Args:
        sizes: samples a batch, or the buckets.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        weights: Sequence[float],
        sizes: int | Buckets,
        curriculum: Curriculum | None = None,
    ) -> None:
        self.feeds, self.weights, self.sizes = list(feeds), [float(weight) for weight in weights], sizes
        self.mixture = Mixture(self.weights)
        self.curriculum = curriculum

    def begin(self, consumed: int = 0) -> Position:
        """The position after `consumed` samples of a stream that passed none over."""
        counts = tuple(self.mixture.counts_after(consumed))
        return Position(consumed, counts, counts, np.empty((0, 3), np.int64))

    def next(self, at: Position) -> tuple[Batch, Position]:
        """The batch at a position, and the position after it."""
        stage = self.curriculum.at(at.consumed) if self.curriculum else Stage()
        if isinstance(self.sizes, Buckets):
            rows, at = self._full_bucket(self.sizes, at, stage)
            chosen, left = at.pending[rows], np.delete(at.pending, rows, axis=0)
        else:
            at = self._draw(at, max(self.sizes - len(at.pending), 0), stage)
            chosen, left = at.pending[: self.sizes], at.pending[self.sizes :]
        batch = Batch(chosen[:, 0], chosen[:, 1], chosen[:, 2], stage, at.consumed)
        return batch, replace(at, consumed=at.consumed + len(chosen), pending=left)

    def _full_bucket(self, buckets: Buckets, at: Position, stage: Stage) -> tuple[np.ndarray, Position]:
        """Rows of the pending samples that fill a bucket first."""
        while True:
            bucket = buckets.of(self._tokens(at.pending))
            rows = [np.flatnonzero(bucket == number)[:size] for number, size in enumerate(buckets.sizes)]
            full = [found for found, size in zip(rows, buckets.sizes, strict=True) if len(found) == size]
            if full:
                return min(full, key=lambda found: int(found[-1])), at
            at = self._draw(at, _DRAWN_AT_ONCE, stage)

    def _draw(self, at: Position, count: int, stage: Stage) -> Position:
        sources = self.mixture.draw(at.drawn, count)
        drawn, positions, passed = list(at.drawn), list(at.positions), at.passed_over
        fresh = np.empty((count, 3), np.int64)
        fresh[:, 0] = sources
        for source in self.mixture.active:
            rows = np.flatnonzero(sources == source)
            if not len(rows):
                continue
            feed = self.feeds[source]
            found, positions[source], over = feed.take(positions[source], len(rows), stage.most_tokens)
            fresh[rows, 1], fresh[rows, 2] = found, feed.places(found)
            passed += over
            drawn[source] += len(rows)
        pending = np.concatenate([at.pending, fresh]) if len(at.pending) else fresh
        return replace(at, positions=tuple(positions), drawn=tuple(drawn), pending=pending, passed_over=passed)

    def _tokens(self, pending: np.ndarray) -> np.ndarray:
        tokens = np.empty(len(pending), np.int64)
        for source, feed in enumerate(self.feeds):
            rows = pending[:, 0] == source
            tokens[rows] = feed.tokens[pending[rows, 2]]
        return tokens

    def saved(self, at: Position) -> dict[str, Any]:
        """A position as plain data."""
        return {
            "consumed": at.consumed,
            "positions": list(at.positions),
            "drawn": list(at.drawn),
            "weights": self.weights,
            "pending": at.pending[:, :2].tolist(),
            "passed_over": at.passed_over,
        }

    def restored(self, state: Mapping[str, Any]) -> Position:
        """A position from plain data. Sources may have been added at the end, and weights changed.

        Raises:
            MaquetteError: the state knows more sources than there are.
        """
        if "positions" not in state:
            return self.begin(int(state["consumed"]))
        missing = len(self.feeds) - len(state["positions"])
        if missing < 0:
            raise MaquetteError(
                f"dataset 'shards': the run had {len(state['positions'])} sources, now {len(self.feeds)}; "
                "keep them all and set weight 0"
            )
        same = [float(weight) for weight in state["weights"]] == self.weights
        positions = (*map(int, state["positions"]), *[0] * missing)
        # Under new weights the shares count from here on.
        drawn = tuple(map(int, state["drawn"])) if same else (0,) * len(self.feeds)
        waiting = np.array(state["pending"], np.int64).reshape(-1, 2)
        places = [int(self.feeds[source].places(np.array([place]))[0]) for source, place in waiting]
        pending = np.column_stack([waiting, np.array(places, np.int64)])
        return Position(int(state["consumed"]), positions, drawn, pending, int(state["passed_over"]))
