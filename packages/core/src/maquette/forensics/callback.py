"""Gives the signs of life of a training that Lightning drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from maquette.forensics.pulse import Pulse


class SignsOfLife(pl.Callback):
    """One after each micro-batch and each validated batch; what compiles says so.

    Args:
        pulse: of this process.
        step: gives the optimizer steps done.
        compiles: whether parts of the model are compiled, perhaps anew when a shape is.
    """

    def __init__(self, pulse: Pulse, step: Callable[[], int], compiles: bool = False) -> None:
        self.pulse, self.step, self.compiles = pulse, step, compiles
        self._before = "train"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Steps follow."""
        if self.compiles:
            handler = _compilations()
            handler.register_start_callback(self._compile)
            handler.register_end_callback(self._compiled)
        self.pulse.enter("train")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """One more micro-batch."""
        self.pulse.mark(self.step())

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Its batches take another time than steps."""
        self.pulse.enter("validate")

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """One more batch."""
        self.pulse.mark(batch_idx)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Steps follow again."""
        self.pulse.enter("train")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What follows takes as long as it takes."""
        self._forget_compilation()
        self.pulse.enter("finish")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The phase stays: it tells where the failure was."""
        self._forget_compilation()

    def _forget_compilation(self) -> None:
        if self.compiles and self._compile in _compilations().start_callbacks:
            _compilations().remove_start_callback(self._compile)
            _compilations().remove_end_callback(self._compiled)

    def _compile(self, *_args: Any) -> None:
        self._before = self.pulse.phase
        self.pulse.enter("compile")

    def _compiled(self, *_args: Any) -> None:
        self.pulse.enter(self._before)


def _compilations() -> Any:
    from torch._dynamo.callback import callback_handler

    return callback_handler
