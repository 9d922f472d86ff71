"""One call of ``train``: from built parts to a finished, interrupted or rolled-back run."""

from __future__ import annotations

import os
import signal
from dataclasses import fields
from functools import partial
from typing import Any, cast

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from maquette import checkpoint, plugins
from maquette.activation_checkpointing import apply_checkpointing
from maquette.compilation import apply_compile
from maquette.config import RunConfig, resolve_block, set_facts
from maquette.durable import write_json
from maquette.engine.anomalies import Rollback
from maquette.engine.randomness import fold
from maquette.engine.step_engine import StepEngine
from maquette.forensics.callback import SignsOfLife
from maquette.forensics.pulse import Pulse
from maquette.lightning_adapter import (
    EngineModule,
    EngineStrategy,
    LogMetrics,
    SaveCheckpoints,
    ShowProgress,
    TrainingStream,
    ValidationStream,
    quiet,
    restore_progress,
)
from maquette.loggers import build_loggers
from maquette.monitoring.callback import Watch
from maquette.monitoring.collective_waits import CollectiveWaits
from maquette.monitoring.machine import Machine, uuid_of
from maquette.monitoring.monitor import Monitor, Who
from maquette.monitoring.on_demand import OnDemand
from maquette.monitoring.step_clock import StepClock
from maquette.monitoring.throughput import Throughput
from maquette.ownership import Ownership
from maquette.parallel.materialise import assign_all
from maquette.parallel.parallelism import Parallelism
from maquette.planning.own_device import find_accelerator
from maquette.progress import say
from maquette.recovery import Recovery
from maquette.runs import RunFolder, build_model, check_weights, read_weights
from maquette.stopping import Interrupted, StopRequest

BLOCKS = {
    "data": "datasets",
    "model": "architectures",
    "objective": "objectives",
    "strategy": "strategies",
    "optimizer": "optimizers",
}
"""The open blocks of a run's config and the kinds of plugins that they name."""


class Session:
    """A run's parts, built in the order in which they need each other.

    Args:
        node: the run's configuration.
        settings: its skeleton, checked.
        run: its folder, owned by the main process.
        parallelism: of the processes that have joined.
        pulse: this process's signs of life.
        owner: of the run's folder, on the main process.
    """

    def __init__(
        self,
        node: DictConfig,
        settings: RunConfig,
        run: RunFolder,
        parallelism: Parallelism,
        *,
        pulse: Pulse,
        owner: Ownership | None,
    ) -> None:
        self.node, self.settings, self.run, self.parallelism = node, settings, run, parallelism
        self.mesh, self.pulse, self.owner = parallelism.mesh, pulse, owner
        self.waits = CollectiveWaits.of(self.mesh.device)
        self.clock = StepClock(communication=self.waits.seconds)
        self.recovery = Recovery(run, self.mesh)
        self.events = self.recovery.events
        if settings.train.threads:
            torch.set_num_threads(settings.train.threads)
        self._write_down()
        self.data = self._build_data()
        self._learn_facts()
        self.objective = plugins.build("objectives", resolve_block(node, "objective"))
        parts = parallelism.build(self._build_model, self._transform, self.objective)
        self.engine = StepEngine(
            parts,
            self.objective,
            settings.train,
            self._optimizer(),
            seed=settings.seed,
            parallelism=parallelism,
            record=self.recovery.record,
        )
        if hasattr(self.objective, "follow"):  # its targets come from the averaged weights
            self.objective.follow(self.engine.averages)
        self._load_weights()

    def _write_down(self) -> None:
        if self.parallelism.main:
            self.run.write_config(self.node)
            if not self.settings.resume:
                self.run.write_environment(self.settings.seed)

    def _build_data(self) -> pl.LightningDataModule:
        """The dataset; the main process comes first, so that caches are made once."""
        facts = cast(dict[str, Any], OmegaConf.to_container(self.node.facts))
        set_facts(facts)
        data = plugins.build("datasets", resolve_block(self.node, "data"))
        data.rank, data.world = self.parallelism.rank, self.parallelism.world
        if hasattr(data, "record"):
            data.record = self.events.add
        if facts and hasattr(data, "adopt_facts"):
            # Class ids and latent statistics must stay those that the weights were trained with.
            data.adopt_facts(facts)
        if self.parallelism.main:
            data.prepare_data()
            data.setup("fit")
        self.mesh.barrier()
        if not self.parallelism.main:
            data.setup("fit")
        return cast(pl.LightningDataModule, data)

    def _learn_facts(self) -> None:
        """The dataset's facts fill the configuration's ``${facts:...}``; a model that exists keeps its own."""
        if not self.node.facts:
            self.node.facts = self.data.facts() if hasattr(self.data, "facts") else {}
        self.node.folder = self.settings.folder
        set_facts(cast(dict[str, Any], OmegaConf.to_container(self.node.facts)))
        for key in BLOCKS:
            self.node[key] = resolve_block(self.node, key)
        if self.parallelism.main:
            self.run.write_config(self.node)

    def _optimizer(self) -> Any:
        block = resolve_block(self.node, "optimizer")
        rounds = any(
            f.name == "stochastic_rounding" for f in fields(plugins.lookup("optimizers", block["name"]).config)
        )
        if rounds and self.settings.train.parameters == "bf16":
            block.setdefault("stochastic_rounding", True)  # plain bf16 weights would lose small updates
        return plugins.build("optimizers", block)

    def _build_model(self) -> nn.Module:
        torch.manual_seed(fold("init", self.settings.seed))
        return build_model(self.node)

    def _transform(self, part: nn.Module) -> None:
        apply_checkpointing(part, self.parallelism.precision)
        apply_compile(part, self.parallelism.precision)

    def _load_weights(self) -> None:
        if self.settings.start_from:
            source, weights = read_weights(self.settings.start_from)
            own = {name: tuple(tensor.shape) for name, tensor in self.engine.state()["model"].items()}
            shapes = {name: shape for rank in self.mesh.gather(own) for name, shape in rank.items()}
            new = tuple(getattr(self.engine.parts[0], "new_weights", list)())
            shapes = {name: shape for name, shape in shapes.items() if name in weights or not name.startswith(new)}
            check_weights(shapes, weights, source, type(self.engine.parts[0]).__name__)
            assign_all(self.engine.parts, weights)
            for part, averages in zip(self.engine.parts, self.engine.averages, strict=True):
                averages.reset(part)
        if self.settings.resume:
            self.recovery.restore(self.engine, self.data)

    def _save(self, saver: checkpoint.Saver, score: float | None, wait: bool) -> None:
        self.engine.check_replicas()
        state = {**self.engine.plain_state(), "data": self.data.state_dict()}
        with self.pulse.during("save"), self.clock.pausing():
            saver.save(self.engine.step, self.engine.state(), state, score, wait)

    def train(self, request: StopRequest) -> RunFolder:
        """Train the steps that are left, or until a signal asks to stop."""
        if self.engine.step >= self.settings.train.steps:
            say(f"'{self.run.path}' has its {self.engine.step} steps; nothing left to train")
        else:
            with self._saver() as saver:
                self._train(request, saver)
            if self.engine.step < self.settings.train.steps:  # perhaps another rank was the one that was asked
                where = f"stopped at step {self.engine.step} of {self.settings.train.steps}"
                number = request.signal or signal.SIGTERM
                raise Interrupted(f"{where}; continue with resume={self.run.path}", number)
        if self.parallelism.main:
            last = {name: points[-1][1] for name, points in self.run.metrics().items() if points}
            write_json(self.run.result_file, {"step": self.engine.step, "metrics": last})
        return self.run

    def _saver(self) -> checkpoint.Saver:
        train = self.settings.train
        return checkpoint.Saver(
            self.run.checkpoints,
            self.mesh,
            keep=train.keep_checkpoints,
            keep_best=train.keep_best,
            background=train.checkpoint_async,
            owner=self.owner,
        )

    def _train(self, request: StopRequest, saver: checkpoint.Saver) -> None:
        """Fit, with an eye on the machine, unless a signal has asked to stop already."""
        request.listen()
        if self.mesh.any(request.requested):  # before the first step
            self._save(saver, None, wait=True)
            return
        with self.waits.measuring(), self._monitor().watching() as monitor:
            self._fit(request, saver, monitor)

    def _fit(self, request: StopRequest, saver: checkpoint.Saver, monitor: Monitor) -> None:
        """Until the last step; where steps look wrong, go back and fit again."""
        total = self.settings.train.steps * self.settings.train.accumulate
        while True:
            trainer = self._trainer(request, saver, monitor)
            restore_progress(trainer, self.engine)
            training = TrainingStream(self.data.train_dataloader(), total - self.engine.micro_step, self.clock)
            preparing = partial(self.pulse.during, "prepare")
            validation = ValidationStream(self.data.val_dataloader, self.mesh, lambda: request.requested, preparing)
            try:
                trainer.fit(EngineModule(self.engine), training, validation)
                return
            except Rollback as rollback:
                self.pulse.enter("restore")
                saver.wait()
                self.recovery.go_back(self.engine, self.data, rollback)

    def _trainer(self, request: StopRequest, saver: checkpoint.Saver, monitor: Monitor) -> pl.Trainer:
        quiet()
        train, main = self.settings.train, self.parallelism.main

        def tell() -> None:
            for warning in saver.poll():
                if main:
                    self.events.add("checkpoint", step=self.engine.step, warning=warning)
                    say(f"warning: {warning}")

        callbacks: list[pl.Callback] = [
            LogMetrics(train.log_every, self._throughput(), monitor),
            SaveCheckpoints(lambda score, wait: self._save(saver, score, wait), train.checkpoint_every, request, tell),
            self._watch(),
            SignsOfLife(self.pulse, lambda: self.engine.step, train.compile),
        ]
        if main:
            callbacks.append(ShowProgress(f"Training {self.settings.name}"))
        return pl.Trainer(
            strategy=EngineStrategy(self.mesh),
            max_epochs=1,
            logger=build_loggers(self.settings.loggers, self.run) if main else False,
            callbacks=callbacks,
            val_check_interval=(train.validate_every or train.steps) * train.accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            default_root_dir=self.run.path,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def _throughput(self) -> Throughput:
        whole = self.engine.parts[0]
        if self.mesh.world > 1:
            with torch.device("meta"):  # a part would count its own arithmetic alone
                whole = self._build_model()
        peak = find_accelerator(self.settings.monitor.accelerator, self.mesh.device)
        precision = self.settings.train.precision
        worlds = {"data_world": self.parallelism.world, "world": self.mesh.world}
        return Throughput(whole, precision, peak, **worlds, clock=self.clock)

    def _monitor(self) -> Monitor:
        mesh, steps = self.mesh, self.settings.train.steps
        who = Who(mesh.rank, mesh.world, int(os.environ.get("LOCAL_RANK", "0")), mesh.index("pipeline"), steps)
        return Monitor(
            self.run.path,
            who,
            self.clock,
            self.settings.monitor,
            machine=lambda: Machine.here(self.run.path, uuid_of(mesh.device)),
            progress=lambda: (self.pulse.phase, self.engine.step),
            record=self.events.add,
        )

    def _watch(self) -> Watch:
        monitor = self.settings.monitor
        steps, events = monitor.profile_steps, monitor.memory_events
        on_demand = OnDemand(self.run.path, rank=self.mesh.rank, steps=steps, memory_events=events)
        return Watch(on_demand, lambda: self.engine.step, lambda seconds: max(self.mesh.gather(seconds)))
