"""Ray Data: the same jobs on a cluster, a killable child process beside each actor.

The output folder must be one that every node sees. Ray streams the outcomes back as they come and holds jobs back
while the driver is busy; what a lost node held is left out, and asked for again by the build.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.building.job import Job, Limits
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.pool import Pool
from maquette_data3d.building.recipe import Recipe


@dataclass
class RayDataConfig:
    """Where the cluster is, and how much of it to use."""

    address: str | None = None
    """Of a running cluster ("auto" finds it); without one, one is started here and ended again."""
    actors: int = 0
    """Actors, each with a core and one child process; 0 is the build's `workers`."""
    jobs: int = 8
    """Sources handed to an actor at a time."""


class RayData:
    """`maquette data build ... engine=ray`: Ray Data maps the jobs over a pool of actors."""

    def __init__(self, config: RayDataConfig) -> None:
        self.config = config

    def run(self, jobs: Sequence[Job], recipe: Recipe, limits: Limits) -> Iterator[Outcome]:
        """See `Engine`."""
        try:
            import ray
            import ray.data
        except ImportError:
            raise MaquetteError(
                "engine 'ray' needs Ray Data: pip install 'maquette-data3d[ray]', or use engine=local"
            ) from None
        started = not ray.is_initialized()
        if started:
            ray.init(address=self.config.address, include_dashboard=False, log_to_driver=False, logging_level="error")
        try:
            yield from self._mapped(ray.data, jobs, recipe, limits)
        finally:
            if started:
                ray.shutdown()

    def _mapped(self, data: Any, jobs: Sequence[Job], recipe: Recipe, limits: Limits) -> Iterator[Outcome]:
        # We show our own progress; Ray's would mix with it.
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        data.DataContext.get_current().enable_progress_bars = False
        actors = min(self.config.actors or limits.processes, len(jobs))
        blocks = -(-len(jobs) // self.config.jobs)
        plain = [{"job": json.dumps(job.plain())} for job in jobs]
        setup = {"recipe": asdict(recipe), "limits": asdict(replace(limits, processes=1))}
        rows = data.from_items(plain, override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_kwargs=setup,
            batch_size=self.config.jobs,
            compute=data.ActorPoolStrategy(min_size=1, max_size=actors),
            num_cpus=1,
        )
        for row in rows.iter_rows():
            yield Outcome(**json.loads(row["outcome"]))


class _Actor:
    """Holds one child process for as long as Ray keeps it."""

    def __init__(self, recipe: dict[str, Any], limits: dict[str, Any]) -> None:
        self.pool = Pool(Recipe(**recipe), Limits(**limits))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        jobs = [Job.of(json.loads(str(job))) for job in batch["job"]]
        return {"outcome": [json.dumps(outcome.plain()) for outcome in self.pool.run(jobs)]}

    def __del__(self) -> None:
        self.pool.close()
