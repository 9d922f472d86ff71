"""Which source each sample comes from: shares that hold after every single sample."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np

from maquette.errors import MaquetteError


class Mixture:
    """A fixed sequence of sources in which each keeps to its weight.

    After n samples each source has had n * weight / sum(weights) of them, give or take less than one: the sequence is
    Tijdeman's ("The chairman assignment problem", 1980). It has no randomness and no memory but the counts so far.

    Raises:
        MaquetteError: a negative weight, or none above 0.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        exact = [Fraction(str(weight)) if np.isfinite(weight) else Fraction(-1) for weight in weights]
        if min(exact) < 0 or sum(exact) == 0:
            raise MaquetteError(f"dataset 'shards': weights of sources {list(weights)}; they must be >= 0, one above 0")
        common = lcm(*(weight.denominator for weight in exact))
        self.shares = [int(weight * common) for weight in exact]
        self.total = sum(self.shares)
        self.active = [place for place, share in enumerate(self.shares) if share]

    def draw(self, counts: Sequence[int], number: int) -> np.ndarray:
        """The sources of the next samples.

        Args:
            counts: how many samples each source has given so far.
            number: how many to draw.

        Returns:
            int64 [number].
        """
        if len(self.active) == 1:
            return np.full(number, self.active[0])
        counts = list(counts)
        drawn = np.empty(number, np.int64)
        for step in range(number):
            drawn[step] = source = self._due(counts)
            counts[source] += 1
        return drawn

    def counts_after(self, number: int) -> list[int]:
        """How many samples each source has given when `number` have been drawn from the beginning."""
        periods, rest = divmod(number, self.total)
        drawn = self.draw([0] * len(self.shares), rest)
        return [periods * share + int(np.sum(drawn == place)) for place, share in enumerate(self.shares)]

    def _due(self, counts: Sequence[int]) -> int:
        """The source with the earliest deadline among those that are far enough behind."""
        reach, sample = 2 * len(self.active) - 2, sum(counts) + 1
        best, best_slack = -1, 0
        for place in self.active:
            share = self.shares[place]
            behind = reach * (share * sample - self.total * counts[place])
            if behind < self.total:
                continue
            slack = (reach - 1) * self.total - behind
            if best < 0 or slack * self.shares[best] < best_slack * share:
                best, best_slack = place, slack
        return best
