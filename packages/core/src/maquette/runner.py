"""Composes a run from its blocks and trains it: the one way for pretraining, finetuning and resuming."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from omegaconf import DictConfig, OmegaConf

from maquette import blocks, checkpoint, plugins
from maquette.config import RunConfig, checked, load, resolve_block, set_facts
from maquette.durable import write_json
from maquette.engine.randomness import fold
from maquette.engine.step_engine import StepEngine
from maquette.errors import MaquetteError
from maquette.lightning_adapter import (
    EngineModule,
    LogMetrics,
    SaveCheckpoints,
    ShowProgress,
    TrainingStream,
    ValidationStream,
    restore_progress,
)
from maquette.loggers import build_loggers
from maquette.parallelism import Parallelism
from maquette.progress import say
from maquette.runs import RunFolder, build_model, load_weights
from maquette.stopping import Interrupted, StopRequest, stop_on_signals

BLOCKS = {"data": "datasets", "model": "architectures", "objective": "objectives", "strategy": "strategies"}


def train(config: DictConfig | RunConfig) -> RunFolder:
    """Train a run to its last step and return its folder.

    Args:
        config: a :class:`RunConfig` or a node of one, as ``maquette.config.load_run_config`` gives it. With ``resume``
            set (see :func:`resume_config`) that run is continued, bit for bit.

    Raises:
        MaquetteError: a mistake in the configuration or the data; nothing is left behind.
        Interrupted: Ctrl-C or SIGTERM came; a checkpoint was saved.
    """
    node = config if isinstance(config, DictConfig) else OmegaConf.structured(config)
    plugins.load_files(node.plugins)
    check_blocks(node)
    settings: RunConfig = checked(_without_blocks(node))
    run = RunFolder(Path(settings.resume or settings.folder))
    if not settings.resume and run.checkpoints.exists() and checkpoint.paths(run.checkpoints):
        raise MaquetteError(
            f"'{run.path}' already holds a run; continue it with resume={run.path} or choose another name="
        )
    parallelism: Parallelism = plugins.build("strategies", resolve_block(node, "strategy"))
    parallelism.start()
    fresh = not run.path.exists()
    try:
        with run.owned() if parallelism.rank == 0 else nullcontext():
            return _Session(node, settings, run, parallelism).train()
    except MaquetteError:
        # A user's mistake before the first checkpoint leaves nothing half-written; a crash keeps what tells of it.
        if fresh and parallelism.rank == 0 and not checkpoint.paths(run.checkpoints):
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    finally:
        parallelism.stop()


def ensure_trained(config: DictConfig | RunConfig) -> RunFolder:
    """Train a run, or go on where an earlier call was stopped, or do nothing where it is finished."""
    run = RunFolder(Path(config.folder))
    if run.finished:
        return run
    if checkpoint.paths(run.checkpoints):
        return train(resume_config(run.path, {}))
    return train(config)


def resume_config(folder: str | Path, overrides: DictConfig | Mapping[str, Any]) -> DictConfig:
    """The configuration that continues a run: its own, with ``overrides`` (e.g. more steps) on top."""
    own = RunFolder(Path(folder)).read_config()
    return load(RunConfig, own, overrides, {"resume": str(folder), "start_from": None, "folder": str(folder)})


def finetune_config(folder: str | Path, overrides: DictConfig | Mapping[str, Any]) -> DictConfig:
    """The configuration that starts a new run from another one's weights, model and facts.

    The model keeps the facts it was built with (classes, vocabulary): they shape its weights.
    """
    own = RunFolder(Path(folder)).read_config()
    name = f"{Path(folder).name}-finetuned"
    changes = {"start_from": str(folder), "name": name, "folder": "runs/${name}", "resume": None}
    return load(RunConfig, own, changes, overrides)


def check_blocks(node: DictConfig) -> None:
    """Check names and keys of all blocks before anything is made.

    Raises:
        MaquetteError: an unknown name or key, with a suggestion.
    """
    for key, kind in BLOCKS.items():
        if OmegaConf.is_missing(node, key):
            known = ", ".join(entry.name for entry in plugins.registry(kind))
            raise MaquetteError(f"the config: '{key}' must be given, e.g. {key}.name=...; known: {known}")
        block = cast(dict[str, Any], OmegaConf.to_container(node[key], resolve=False))
        if "name" not in block:
            raise MaquetteError(
                f"the config: '{key}.name' must be given; known: "
                + ", ".join(entry.name for entry in plugins.registry(kind))
            )
        entry = plugins.lookup(kind, str(block.pop("name")))
        blocks.merge(entry.config, block, where=f"{key} '{entry.name}'")


class _Session:
    """One call of :func:`train`, from built parts to a finished or interrupted run."""

    def __init__(self, node: DictConfig, settings: RunConfig, run: RunFolder, parallelism: Parallelism) -> None:
        self.node, self.settings, self.run, self.parallelism = node, settings, run, parallelism
        if settings.train.threads:
            torch.set_num_threads(settings.train.threads)
        self._write_down()
        self.data = self._build_data()
        self._learn_facts()
        torch.manual_seed(fold("init", settings.seed))
        self.model = parallelism.parallelize(build_model(node).to(parallelism.device()))
        self.engine = StepEngine(
            self.model,
            plugins.build("objectives", resolve_block(node, "objective")),
            settings.train,
            settings.optimizer,
            seed=settings.seed,
            parallelism=parallelism,
        )
        self._load_weights()

    def _write_down(self) -> None:
        if self.parallelism.rank == 0:
            self.run.write_config(self.node)
            if not self.settings.resume:
                self.run.write_environment(self.settings.seed)

    def _build_data(self) -> pl.LightningDataModule:
        facts = cast(dict[str, Any], OmegaConf.to_container(self.node.facts))
        set_facts(facts)
        data = plugins.build("datasets", resolve_block(self.node, "data"))
        data.rank, data.world = self.parallelism.rank, self.parallelism.world
        if facts and hasattr(data, "adopt_facts"):
            # Class ids and latent statistics must stay those that the weights were trained with.
            data.adopt_facts(facts)
        data.prepare_data()
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
        if self.parallelism.rank == 0:
            self.run.write_config(self.node)

    def _load_weights(self) -> None:
        if self.settings.start_from:
            found, _ = checkpoint.read_newest(
                RunFolder(Path(self.settings.start_from)).checkpoints, ("model", "average")
            )
            load_weights(self.model, found.parts.get("average", found.parts["model"]), str(found.path))
            if self.engine.average:
                for name, tensor in self.engine.average.weights.items():
                    tensor.copy_(self.model.state_dict()[name])
        if self.settings.resume:
            found, reasons = checkpoint.read_newest(self.run.checkpoints)
            for reason in reasons:
                say(f"warning: {reason}; falling back to {found.path.name}")
            if self.parallelism.rank == 0:
                checkpoint.quarantine(self.run.checkpoints, found.path)
            load_weights(self.model, found.parts["model"], str(found.path))
            self.engine.load_state(found.parts, int(found.state["micro_step"]))
            self.data.load_state_dict(found.state["data"])

    def _save(self) -> None:
        if self.parallelism.rank == 0:
            state = {"micro_step": self.engine.micro_step, "data": self.data.state_dict()}
            keep = self.settings.train.keep_checkpoints
            checkpoint.save(self.run.checkpoints, self.engine.step, self.engine.state(), state, keep)
        self.parallelism.barrier()

    def train(self) -> RunFolder:
        """Train the steps that are left."""
        remaining = self.settings.train.steps * self.settings.train.accumulate - self.engine.micro_step
        if remaining <= 0:
            say(f"'{self.run.path}' has its {self.engine.step} steps; nothing left to train")
        else:
            with stop_on_signals() as request:
                trainer = self._trainer(request)
                restore_progress(trainer, self.engine)
                training = TrainingStream(self.data.train_dataloader(), remaining)
                trainer.fit(EngineModule(self.engine), training, ValidationStream(self.data.val_dataloader))
            if request.requested and self.engine.step < self.settings.train.steps:
                assert request.signal is not None
                where = f"stopped at step {self.engine.step} of {self.settings.train.steps}"
                raise Interrupted(f"{where}; continue with resume={self.run.path}", request.signal)
        if self.parallelism.rank == 0:
            last = {name: points[-1][1] for name, points in self.run.metrics().items() if points}
            write_json(self.run.result_file, {"step": self.engine.step, "metrics": last})
        return self.run

    def _trainer(self, request: StopRequest) -> pl.Trainer:
        _quiet()
        train = self.settings.train
        callbacks: list[pl.Callback] = [
            LogMetrics(train.log_every),
            SaveCheckpoints(self._save, train.checkpoint_every, request),
        ]
        if self.parallelism.rank == 0:
            callbacks.append(ShowProgress(f"Training {self.settings.name}"))
        return pl.Trainer(
            strategy=SingleDeviceStrategy(self.parallelism.device()),
            max_epochs=1,
            logger=build_loggers(self.settings.loggers, self.run) if self.parallelism.rank == 0 else False,
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


def _without_blocks(node: DictConfig) -> DictConfig:
    """The skeleton alone: its interpolations may be resolved before the dataset has given its facts."""
    bare = node.copy()
    for key in (*BLOCKS, "pipeline"):
        bare[key] = {}
    return bare


def _quiet() -> None:
    """Lightning's notices about what we do on purpose."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
