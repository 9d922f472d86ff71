"""What every feature promises, and what of a build it may look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Feature(Protocol):
    """One group of a sample's arrays, the same for the same subject on any machine.

    Fields of its config that are None and are called `resolution`, `truncation`, `points` or `precision` get the
    build's values. A feature may also have `tokens(arrays) -> int`: how long the sample is for a model that
    reads this feature as a sequence.
    """

    def ragged(self) -> tuple[str, ...]:
        """Arrays whose first axis differs from sample to sample."""

    def facts(self) -> dict[str, Any]:
        """Plain data about the arrays that whoever reads them needs, kept in shards.json."""

    def compute(self, subject: Any) -> Mapping[str, np.ndarray]:
        """The arrays of one `Subject`.

        Raises:
            MaquetteError: "reason: detail", when the source has to be quarantined.
        """


def stored(array: np.ndarray, precision: str) -> np.ndarray:
    """Floats as float16 or, exact, as float32; contiguous."""
    kind = np.float16 if precision == "float16" else np.float32
    return np.ascontiguousarray(array, kind)
