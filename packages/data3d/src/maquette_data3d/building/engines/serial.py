"""One source after another in this very process: for debugging, and for sources that one trusts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maquette_data3d.building.job import Job, Limits
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.worker import answer


@dataclass
class SerialConfig:
    """Nothing to set."""


class Serial:
    """No child processes: no deadline and no cap on memory, and a crash of a parser ends the build."""

    def __init__(self, config: SerialConfig | None = None) -> None:
        self.config = config or SerialConfig()

    def run(self, jobs: Sequence[Job], recipe: Recipe, limits: Limits) -> Iterator[Outcome]:
        """See `Engine`."""
        for job in jobs:
            yield answer(job, recipe)
