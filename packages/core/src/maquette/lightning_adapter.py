"""Lets Lightning's Trainer drive the step engine: its loop, validation, loggers and callbacks around our step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from maquette.engine.step_engine import StepEngine
from maquette.progress import Progress
from maquette.stopping import StopRequest


class EngineModule(pl.LightningModule):
    """A LightningModule that hands each batch to the engine.

    Optimization is manual for Lightning and whole inside the engine; the optimizer is stepped through Lightning's own
    wrapper alone, so that ``trainer.global_step`` counts and strangers' callbacks work.
    """

    def __init__(self, engine: StepEngine) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.engine = engine
        self.model = engine.model
        self.latest: dict[str, Tensor] = {}
        self._validation: dict[str, list[Tensor]] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The engine's optimizer."""
        return self.engine.optimizer

    def training_step(self, batch: Mapping[str, Any], _batch_index: int) -> None:
        """One micro-batch."""
        self.latest = self.engine.run(batch, cast(Any, self.optimizers()).step)

    def validation_step(self, batch: Mapping[str, Any], batch_index: int) -> None:
        """Collect the objective's scalars."""
        for name, value in self.engine.validate(batch, batch_index).items():
            self._validation.setdefault(name, []).append(value)

    def on_validation_epoch_end(self) -> None:
        """Log the means as ``validation/<name>``."""
        means = {name: torch.stack(values).mean() for name, values in self._validation.items()}
        self._validation.clear()
        self.write({f"validation/{name}": value for name, value in means.items()}, self.engine.step)

    def write(self, metrics: Mapping[str, Tensor | float], step: int) -> None:
        """Average over the processes and hand to every logger."""
        average = self.engine.parallelism.average
        plain = {k: float(average(v)) if isinstance(v, Tensor) else v for k, v in metrics.items()}
        for logger in self.loggers:
            logger.log_metrics(plain, step)


class TrainingStream:
    """A finite view on a dataset's endless training loader.

    Having a length keeps Lightning from fetching ahead, which would put the data position one batch off.
    """

    def __init__(self, loader: Iterable[Any], length: int) -> None:
        self.loader, self.length = loader, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self.loader)
        for _ in range(self.length):
            yield next(iterator)


class ValidationStream:
    """A dataset's validation loader, asked for anew at each pass, so that it may be a generator.

    Handed over as it is, a plain list would look like several loaders to Lightning.
    """

    def __init__(self, loader: Callable[[], Iterable[Any]]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader())


class LogMetrics(pl.Callback):
    """Writes the step's scalars, its speed and the share of time spent waiting for data."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._mark = self._fetch_began = time.perf_counter()
        self._validation_began = 0.0
        self._waited = 0.0
        self._steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        self._mark = self._fetch_began = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is here."""
        self._waited += time.perf_counter() - self._fetch_began

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Log after every ``every`` optimizer steps."""
        module = cast(EngineModule, pl_module)
        engine = module.engine
        if engine.micro_step % engine.train.accumulate == 0:
            self._steps += 1
            if engine.step % self.every == 0 or engine.step == engine.train.steps:
                now = time.perf_counter()
                seconds = now - self._mark
                speed = {
                    "train/learning_rate": engine.optimizer.param_groups[0]["lr"],
                    "train/steps_per_second": self._steps / seconds,
                    "train/data_wait_share": self._waited / seconds,
                }
                scalars = {f"train/{name}": value for name, value in module.latest.items()}
                module.write({**scalars, **speed}, engine.step)
                self._mark, self._waited, self._steps = now, 0.0, 0
        self._fetch_began = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clocks: validating is neither training nor waiting for data."""
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let them go on."""
        seconds = time.perf_counter() - self._validation_began
        self._mark += seconds
        self._fetch_began += seconds


class ShowProgress(pl.Callback):
    """The bar, or the plain lines, of a training run."""

    def __init__(self, description: str) -> None:
        self.description = description
        self._progress: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin where the run begins."""
        engine = cast(EngineModule, pl_module).engine
        self._progress = Progress(self.description, engine.train.steps, start=engine.step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Advance after each optimizer step."""
        module = cast(EngineModule, pl_module)
        if self._progress and module.engine.micro_step % module.engine.train.accumulate == 0:
            self._progress.advance(note=lambda: f"loss {module.latest['loss'].item():.4f}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close it."""
        if self._progress:
            self._progress.close()


class SaveCheckpoints(pl.Callback):
    """Saves every so many steps, at the end, and when asked to stop; then stops."""

    def __init__(self, save: Callable[[], None], every: int, request: StopRequest) -> None:
        self.save, self.every, self.request = save, every, request

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The Trainer has set its own signal handlers by now; take the signals back."""
        if not self.request.requested:
            self.request.listen()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Only between optimizer steps, where the state is whole."""
        engine = cast(EngineModule, pl_module).engine
        if engine.micro_step % engine.train.accumulate:
            return
        stop = engine.parallelism.any(self.request.requested)
        if stop or engine.step % self.every == 0 or engine.step == engine.train.steps:
            self.save()
        if stop:
            trainer.should_stop = True
            # Validating now would only keep the user waiting.
            trainer.limit_val_batches = 0


def restore_progress(trainer: pl.Trainer, engine: StepEngine) -> None:
    """Tell Lightning's counters where a resumed run stands, so that validations fall on the same steps."""
    loop = trainer.fit_loop.epoch_loop
    steps = loop.manual_optimization.optim_step_progress.total
    steps.ready = steps.completed = engine.step
    batches = loop.batch_progress.total
    batches.ready = batches.started = batches.processed = batches.completed = engine.micro_step
