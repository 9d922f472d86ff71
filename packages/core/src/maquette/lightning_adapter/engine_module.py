"""The LightningModule that hands batches to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from maquette.engine.step_engine import StepEngine


class EngineModule(pl.LightningModule):
    """Optimization is manual for Lightning and whole inside the engine.

    The optimizer is stepped through Lightning's own wrapper alone, so that ``trainer.global_step`` counts and
    strangers' callbacks work.
    """

    def __init__(self, engine: StepEngine) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.engine = engine
        self.parts = torch.nn.ModuleList(engine.parts)
        self.latest: dict[str, Tensor] = {}
        self.validation_loss: float | None = None
        """Of the last validation."""
        self._sums: dict[str, Tensor] = {}
        self._samples = 0
        self._swapped = ExitStack()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The engine's optimizer."""
        return self.engine.optimizer

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """As it is: the engine moves what computes, and keeps what it must read on the host."""
        return batch

    def training_step(self, batch: Mapping[str, Any], _batch_index: int) -> None:
        """One micro-batch; after a step that is left out the metrics stay those of the one before."""
        self.latest = self.engine.run(batch, cast(Any, self.optimizers()).step) or self.latest

    def on_validation_epoch_start(self) -> None:
        """Put the averaged weights in, if they are what is to be validated."""
        if self.engine.train.validate_average:
            for part, averages in zip(self.engine.parts, self.engine.averages, strict=True):
                self._swapped.enter_context(averages.swapped(part))

    def validation_step(self, batch: tuple[Mapping[str, Any], int], batch_index: int) -> None:
        """Collect the objective's scalars, each sample counting once."""
        values, samples = batch
        for name, value in self.engine.validate(values, batch_index).items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach() * samples
        self._samples += samples

    def on_validation_epoch_end(self) -> None:
        """Log the means over all processes' samples as ``validation/<name>``."""
        self._swapped.close()
        mesh = self.engine.parallelism.mesh
        names = sorted(self._sums)
        totals = torch.stack(
            [self._sums[name].float() for name in names] + [torch.tensor(float(self._samples)).to(mesh.device)]
        )
        mesh.sum(totals, "data", "shard", "expert")
        means = {name: float(total / totals[-1]) for name, total in zip(names, totals, strict=False)}
        self._sums, self._samples = {}, 0
        if getattr(self.trainer.val_dataloaders, "cut", False):  # the mean of some samples is no score
            self.validation_loss = None
            return
        self.validation_loss = means.get("loss")
        self.write({f"validation/{name}": value for name, value in means.items()}, self.engine.step)

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Hand to every logger."""
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step)


def restore_progress(trainer: pl.Trainer, engine: StepEngine) -> None:
    """Tell Lightning's counters where a resumed run stands, so that validations fall on the same steps."""
    loop = trainer.fit_loop.epoch_loop
    steps = loop.manual_optimization.optim_step_progress.total
    steps.ready = steps.completed = engine.step
    batches = loop.batch_progress.total
    batches.ready = batches.started = batches.processed = batches.completed = engine.micro_step
