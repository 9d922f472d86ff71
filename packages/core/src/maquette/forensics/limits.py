"""How long a process may be silent: learnt from how long it was silent before."""

from __future__ import annotations

WARM_UP = 5
"""Observations before a limit is learnt from them; of these the first does not count: it compiles and fills caches."""


class Expectation:
    """The longest silence that is no hang.

    Args:
        first: seconds that are allowed until enough was observed.
        least: seconds that are allowed at any rate.
        factor: how many times the slowest observation is allowed.
    """

    def __init__(self, first: float, least: float, factor: float) -> None:
        self.first, self.least, self.factor = first, least, factor
        self._seen = 0
        self._slowest = 0.0

    def observe(self, seconds: float) -> None:
        """One more sign of life came after so many seconds."""
        self._seen += 1
        if self._seen > 1:
            self._slowest = max(self._slowest, seconds)

    @property
    def limit(self) -> float:
        """Seconds: ``first`` until enough was observed, then ``factor`` times the slowest, ``least`` at any rate."""
        if self._seen < WARM_UP:
            return self.first
        return max(self.least, self.factor * self._slowest)
