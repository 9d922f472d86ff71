"""Child processes on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maquette_data3d.building.job import Job, Limits
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.pool import Pool
from maquette_data3d.building.recipe import Recipe


@dataclass
class LocalConfig:
    """Nothing to set: `workers`, `deadline_s` and `memory_mb` are the build's."""


class Local:
    """A pool of child processes, each of which may crash, hang or eat memory alone."""

    def __init__(self, config: LocalConfig | None = None) -> None:
        self.config = config or LocalConfig()

    def run(self, jobs: Sequence[Job], recipe: Recipe, limits: Limits) -> Iterator[Outcome]:
        """See `Engine`."""
        with Pool(recipe, limits) as pool:
            yield from pool.run(jobs)
