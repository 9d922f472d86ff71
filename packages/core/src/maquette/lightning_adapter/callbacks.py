"""What happens around the steps: scalars, the progress bar, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import lightning.pytorch as pl

from maquette.lightning_adapter.engine_module import EngineModule
from maquette.monitoring.monitor import Monitor
from maquette.monitoring.noise_bins import NoiseBins
from maquette.monitoring.throughput import Throughput
from maquette.parallel.layout import SAMPLES
from maquette.progress import Progress
from maquette.stopping import StopRequest


class LogMetrics(pl.Callback):
    """Writes the step's scalars, the run's speed, the loss by noise level and the monitor's readings."""

    def __init__(self, every: int, throughput: Throughput, monitor: Monitor) -> None:
        self.every, self.throughput, self.monitor = every, throughput, monitor
        self.bins = NoiseBins()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        cast(EngineModule, pl_module).engine.watch_groups_every = self.every
        self.throughput.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is here."""
        self.throughput.fetched(batch)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Log after every ``every`` optimizer steps."""
        module = cast(EngineModule, pl_module)
        engine = module.engine
        if {"loss", "t"} <= engine.per_sample.keys():
            self.bins.add(engine.per_sample)
        stepped = engine.micro_step % engine.train.accumulate == 0
        if stepped:
            self.throughput.clock.stepped()
        if stepped and (engine.step % self.every == 0 or engine.step == engine.train.steps):
            mesh = engine.mesh
            scalars = engine.average_over_samples(module.latest) if module.latest else {}
            scalars |= self.bins.read(lambda sums: mesh.sum(sums, *SAMPLES))
            scalars |= self.throughput.read() | {"learning_rate": engine.optimizer.param_groups[0]["lr"]}
            self.monitor.note(scalars)
            readings = {f"monitor/{name}": value for name, value in self.monitor.scalars().items()}
            module.write({f"train/{name}": value for name, value in scalars.items()} | readings, engine.step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clocks: validating is neither training nor waiting for data."""
        self.throughput.clock.pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let them go on."""
        self.throughput.clock.go_on()


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
            self._progress.advance(note=lambda: f"loss {float(module.latest.get('loss', float('nan'))):.4f}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close it."""
        if self._progress:
            self._progress.close()


class SaveCheckpoints(pl.Callback):
    """Saves every so many steps, at the end, and when asked to stop; then stops.

    Where a step is validated too, its checkpoint waits for the loss, which is its score.

    Args:
        save: writes a checkpoint; told the validation loss of this very step, where there is one, and whether to wait
            until it is on the disk.
        every: how many steps.
        request: whether a signal has come.
        after_step: called after each optimizer step, e.g. to tell of saves that failed.
    """

    def __init__(
        self,
        save: Callable[[float | None, bool], None],
        every: int,
        request: StopRequest,
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.save, self.every, self.request, self.after_step = save, every, request, after_step
        self._waiting = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The Trainer has set its own signal handlers by now; take the signals back."""
        if not self.request.requested:
            self.request.listen()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Only between optimizer steps, where the state is whole."""
        engine = cast(EngineModule, pl_module).engine
        if engine.micro_step % engine.train.accumulate:
            return
        stop = engine.mesh.any(self.request.requested)
        last = engine.step == engine.train.steps
        # Within a row of bad steps the next checkpoint might be the one to go back to: it must lie before them.
        due = last or (engine.step % self.every == 0 and not engine.guard.row)
        validates = engine.step % (engine.train.validate_every or engine.train.steps) == 0
        if stop or (due and not validates):
            self.save(None, stop or last)
        self._waiting = due and validates and not stop
        self.after_step()
        if stop:
            trainer.should_stop = True
            # Validating now would only keep the user waiting.
            trainer.limit_val_batches = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what has waited for its score, or because a signal has come meanwhile."""
        module = cast(EngineModule, pl_module)
        stop = getattr(trainer.val_dataloaders, "cut", False)
        if self._waiting or stop:
            self._waiting = False
            self.save(module.validation_loss, stop or module.engine.step == module.engine.train.steps)
        if stop:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A dataset that holds nothing out is never validated."""
        if self._waiting:
            self._waiting = False
            self.save(None, True)
