"""The composition: one layout, one mesh and a strategy for each axis, in the order that makes any product work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from maquette import plugins
from maquette.config import ParallelConfig
from maquette.errors import MaquetteError
from maquette.parallel.layout import resolve
from maquette.parallel.materialise import materialise
from maquette.parallel.mesh import Mesh
from maquette.parallel.pipeline_schedules import schedule_named
from maquette.parallel.strategy import ORDER, Strategy
from maquette.precision import Precision
from maquette.precision.fp8 import apply_fp8

DEFAULTS = {"data": "ddp", "shard": "fsdp", "expert": "ep", "tensor": "tp"}
"""The strategies of axes that the run's own strategy does not own."""


class Parallelism:
    """How the processes of a run share its work; the engine, the runner and the checkpoints talk to this alone.

    Args:
        config: sizes of the axes.
        strategy: the run's own; it takes the processes that ``config`` leaves over.
        precision: what the parts compute in.
        backend: ``fake`` plans for many processes in one.
        world: how many processes; from the launcher's environment where None.

    Raises:
        MaquetteError: sizes that do not fit, or a combination that cannot work, with the reason.
    """

    def __init__(
        self,
        config: ParallelConfig,
        strategy: Strategy,
        precision: Precision,
        *,
        backend: str = "auto",
        world: int | None = None,
    ) -> None:
        self.config, self.precision = config, precision
        world = int(os.environ.get("WORLD_SIZE", "1")) if world is None else world
        self.layout = resolve(strategy.claimed(config), strategy.axis, world)
        self.strategies = self._chosen(strategy)
        self.pipeline: Any = None
        schedule_named(config.schedule)  # words that this layout does not use must be right all the same
        plugins.lookup("strategies", config.attention)
        self.check(None)
        self.mesh = Mesh(self.layout, backend=backend, timeout_minutes=config.timeout_minutes)
        self.pipeline = self._pipeline()

    def _chosen(self, own: Strategy) -> list[Strategy]:
        """A strategy for each axis that is shared. One that shards covers the copies (``data``) too."""
        names = {axis: name for axis, name in DEFAULTS.items() if self.layout.size(axis) > 1}
        if self.layout.context > 1:
            names["context"] = self.config.attention
        if own.shards_parameters() or (own.axis != "data" and self.layout.shard > 1):
            names.pop("data", None)
        elif self.layout.size("context", "expert") > 1:
            names["data"] = DEFAULTS["data"]  # what these axes replicate must be summed by somebody
        chosen = {axis: plugins.build("strategies", {"name": name}) for axis, name in names.items() if axis != own.axis}
        if own.shards_parameters():
            chosen.pop("shard", None)
        chosen[own.axis] = own
        return [chosen[axis] for axis in ORDER if axis in chosen]

    def _pipeline(self) -> Any:
        if self.layout.pipeline == 1:
            return None
        from maquette.parallel.pipeline import Pipeline

        def context() -> AbstractContextManager[Any]:
            return self.precision.context(self.mesh.device, sharded=self.casts_parameters)

        return Pipeline(self.mesh, self.config.schedule, self.config.microbatches, context)

    def check(self, model: nn.Module | None, objective: Any = None) -> None:
        """Refuse what cannot work, with the reason.

        Raises:
            MaquetteError: a strategy refuses the layout, the model or the objective.
        """
        reasons = [strategy.refuses(self.layout, model, self.precision) for strategy in self.strategies]
        if self.pipeline:
            reasons.append(self.pipeline.refuses(model, objective, compiled=self.precision.compile))
        for reason in reasons:
            if reason:
                raise MaquetteError(f"parallel ({self.layout}): {reason}")

    @property
    def world(self) -> int:
        """How many processes see different samples."""
        return self.mesh.data_world

    @property
    def rank(self) -> int:
        """Which of the shares of a batch is this process's."""
        return self.mesh.data_rank

    @property
    def main(self) -> bool:
        """True on the one process that writes small files."""
        return self.mesh.rank == 0

    @property
    def share(self) -> float:
        """By what a process's mean loss is multiplied, so that gradients add up to those of the whole batch's mean."""
        return 1.0 / self.layout.size("data", "shard", "expert", "context", "tensor")

    @property
    def casts_parameters(self) -> bool:
        """True where FSDP2 casts the parameters, so that autocast stays off."""
        return any(strategy.shards_parameters() for strategy in self.strategies)

    def build(
        self, build: Callable[[], nn.Module], transform: Callable[[nn.Module], None], objective: Any = None
    ) -> list[nn.Module]:
        """The parts of the model that this process trains: one, or several stages of a pipeline.

        Args:
            build: gives the whole model with its initial weights, the same everywhere.
            transform: what comes between splitting and sharding: activation checkpointing, compiling.
            objective: that the parts are trained with; a pipeline asks whether it can be taken apart.

        Raises:
            MaquetteError: the model cannot be split in that way.
        """
        if self.mesh.world == 1:
            model = build().to(self.mesh.device)
            self._transform([model], transform)
            return [model]
        with torch.device("meta"):
            model = build()
        self.check(model, objective)
        parts = self.pipeline.split(model) if self.pipeline else [model]
        self._transform(parts, transform)
        offload = any(strategy.offloads_parameters() for strategy in self.strategies)
        materialise(parts, build() if self.main else None, self.mesh, offload=offload)
        return parts

    def split(self, model: nn.Module) -> None:
        """Split a model, with its weights where they are computed, in place: to use it, not to train it.

        Raises:
            MaquetteError: the model cannot be split in that way.
        """
        self.check(model)
        self._transform([model], lambda part: None)

    def _transform(self, parts: list[nn.Module], transform: Callable[[nn.Module], None]) -> None:
        for part in parts:
            self.precision.store(part)
            if self.precision.fp8:
                apply_fp8(part, self.precision)
            for strategy in self.strategies:
                if strategy.axis not in ("data", "shard"):
                    strategy.apply(part, self.mesh, self.precision)
            transform(part)
            for strategy in self.strategies:
                if strategy.axis in ("data", "shard") and strategy.shards_parameters():
                    strategy.apply(part, self.mesh, self.precision)

    def watch(self, parts: list[nn.Module]) -> None:
        """Let the strategies that watch gradients see the parameters as they are after everything else."""
        for part in parts:
            for strategy in self.strategies:
                if strategy.axis in ("data", "shard") and not strategy.shards_parameters():
                    strategy.apply(part, self.mesh, self.precision)

    def before_backward(self, parts: list[nn.Module], last: bool) -> None:
        """Before each micro-batch."""
        for part, strategy in self._pairs(parts):
            strategy.before_backward(part, last)

    def reduce_gradients(self, parts: list[nn.Module]) -> None:
        """After the last micro-batch of a step: copies first, since their sums may still be on their way."""
        for part, strategy in reversed(list(self._pairs(parts))):
            strategy.reduce_gradients(part, self.mesh)

    def _pairs(self, parts: list[nn.Module]) -> Iterator[tuple[nn.Module, Strategy]]:
        for part in parts:
            for strategy in self.strategies:
                yield part, strategy
