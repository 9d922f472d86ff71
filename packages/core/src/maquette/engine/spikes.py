"""Tells a loss spike from the noise of a loss, by the median of the steps before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

NORMAL = 1.4826
"""Of a normal distribution, the standard deviation over the median absolute deviation."""

LEAST_SPREAD = 0.05
"""The spread is taken to be at least this share of the median: a loss may be almost constant for a while."""


class SpikeDetector:
    """Judges the loss of each step by those of the last ``window`` steps that were made.

    A spike is a loss that is above all of them and above their median by more than ``threshold`` times their spread,
    which is the median absolute deviation, scaled as for a normal distribution. Neither is moved by single outliers.
    Until half a window is known, nothing is a spike.

    Args:
        threshold: in spreads; 0 finds no spikes.
        window: steps.
    """

    def __init__(self, threshold: float, window: int) -> None:
        self.threshold, self.window = threshold, window
        self.losses: deque[float] = deque(maxlen=window)

    def limit(self) -> float:
        """Losses above it are spikes; infinite as long as too few are known."""
        if not self.threshold or len(self.losses) < self.window // 2:
            return float("inf")
        middle = median(self.losses)
        spread = NORMAL * median(abs(loss - middle) for loss in self.losses)
        return middle + self.threshold * max(spread, LEAST_SPREAD * abs(middle))

    def is_spike(self, loss: float) -> bool:
        """Whether a finite loss is one."""
        # Almost every loss is below the highest of the window, which costs less to find out than the limit.
        return bool(self.losses) and loss > max(self.losses) and loss > self.limit()

    def observe(self, loss: float) -> None:
        """The step was made."""
        self.losses.append(loss)

    def forget(self) -> None:
        """Begin anew: the losses have come to another level."""
        self.losses.clear()

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"losses": list(self.losses)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.losses = deque(state["losses"], maxlen=self.window)
