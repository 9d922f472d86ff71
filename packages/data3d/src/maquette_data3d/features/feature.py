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


def check_sizes(config: Any, **least: int) -> None:
    """Refuses sizes of a config that are too small; None is the build's, which has been checked.

    Raises:
        ValueError: names the first one. The command line turns it into one line.
    """
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and value < bound:
            raise ValueError(f"{name} {value} is less than {bound}")
    precision = getattr(config, "precision", None)
    if precision not in (None, "float16", "exact"):
        raise ValueError(f"precision '{precision}' is not one of: float16, exact")


def check_cells(resolution: int | None, multiple: int, most: int = 1024) -> None:
    """Refuses a resolution that grids cannot have.

    Raises:
        ValueError: as `check_sizes`.
    """
    if resolution is not None and (not multiple <= resolution <= most or resolution % multiple):
        raise ValueError(f"resolution {resolution} is not a multiple of {multiple} up to {most}")


def stored(array: np.ndarray, precision: str) -> np.ndarray:
    """Floats as float16 or, exact, as float32; contiguous."""
    kind = np.float16 if precision == "float16" else np.float32
    return np.ascontiguousarray(array, kind)
