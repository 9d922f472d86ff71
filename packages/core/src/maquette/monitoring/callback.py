"""Puts the requests on demand and the timeout of collectives behind Lightning's steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from maquette.forensics.collectives import tighten_timeout
from maquette.monitoring.on_demand import OnDemand

FIRST_STEPS = 2
"""Optimizer steps before the timeout is set: the first compiles, the second is like those to come."""


class Watch(pl.Callback):
    """Answers requests after each optimizer step; after the first two sets the timeout of collectives.

    Args:
        on_demand: what answers.
        steps: gives how many optimizer steps the engine has done; after a micro-batch that is not the last of
            its step it stays.
        slowest: the largest of all ranks' values, e.g. by an all-reduce; the identity for one process.
    """

    def __init__(
        self, on_demand: OnDemand, steps: Callable[[], int], slowest: Callable[[float], float] = float
    ) -> None:
        self.on_demand, self.steps, self.slowest = on_demand, steps, slowest
        self._done = self._began_at = 0
        self._mark = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen."""
        self.on_demand.start()
        self._done = self._began_at = self.steps()
        self._mark = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Only between optimizer steps."""
        done = self.steps()
        if done == self._done:
            return
        self._done = done
        if done - self._began_at == FIRST_STEPS:
            tighten_timeout(self.slowest(time.monotonic() - self._mark))
        self.on_demand.after_step(done)
        self._mark = time.monotonic() if done - self._began_at < FIRST_STEPS else self._mark

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is under way, and give the signals back."""
        self.on_demand.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The same after a failure."""
        self.on_demand.close()
