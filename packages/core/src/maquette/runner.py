"""Composes a run from its blocks and trains it: the one way for pretraining, finetuning and resuming."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from maquette import blocks, checkpoint, plugins
from maquette.config import RunConfig, checked, load, resolve_block
from maquette.doctor.gate import pass_gate
from maquette.durable import DISK_FULL
from maquette.errors import MaquetteError
from maquette.forensics.collectives import record_flights
from maquette.forensics.out_of_memory import OutOfMemory, Reporter
from maquette.forensics.pulse import Pulse
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision
from maquette.runs import RunFolder, is_main_process
from maquette.session import BLOCKS, Session
from maquette.stopping import stop_on_signals

PATIENCE = 60.0
"""Seconds that a run which continues by itself waits until the one before has saved and left."""


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
    auto = node.resume == "auto"
    if auto:
        node = load(RunConfig, node, {"resume": None})
    check_blocks(node)
    settings: RunConfig = checked(_without_blocks(node))
    run = RunFolder(Path(settings.resume or settings.folder))
    if not auto and not settings.resume and run.checkpoints.exists() and checkpoint.paths(run.checkpoints):
        raise MaquetteError(
            f"'{run.path}' already holds a run; continue it with resume={run.path} or choose another name="
        )
    fresh = not run.path.exists()
    parallelism: Parallelism | None = None
    first, monitor = 60 * settings.parallel.timeout_minutes, settings.monitor
    pulse = Pulse.of_this_process(first=first, least=monitor.hang_seconds, factor=monitor.hang_factor)
    try:
        with pulse.beating(), Reporter(run.path, pulse).reporting() as report:
            parallelism = start(node, settings, run)
            pass_gate(settings.doctor, parallelism.mesh, run.path)
            # Before the processes have joined there is nothing to save, and a signal ends them at once.
            several = parallelism.mesh.world > 1
            owned = run.owned(PATIENCE if auto else 0) if parallelism.main else nullcontext()
            with stop_on_signals(several) as request, owned as owner:
                # Decided by the owner, for all: the one before may have saved a moment ago.
                if auto and parallelism.mesh.share(bool(checkpoint.paths(run.checkpoints))):
                    node = _continued(node, run)
                    settings = checked(_without_blocks(node))
                session = Session(node, settings, run, parallelism, pulse=pulse, owner=owner)
                report.engine = session.engine
                return session.train(request)
    except MaquetteError as error:
        # A user's mistake before the first checkpoint leaves nothing half-written; a crash keeps what tells of it.
        kept = isinstance(error, OutOfMemory) or checkpoint.paths(run.checkpoints)
        if fresh and is_main_process() and not kept:
            run.discard()
        raise
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = f"disk full ({error.strerror}) while writing '{error.filename or run.path}'"
        raise MaquetteError(f"{where}; checkpoints are untouched: make room, then continue with resume=auto") from None
    finally:
        if parallelism:
            parallelism.mesh.stop()


def _continued(node: DictConfig, run: RunFolder) -> DictConfig:
    """The same run where it left off: what a restarted launcher needs."""
    return load(RunConfig, node, {"resume": str(run.path), "start_from": None, "facts": run.read_config().facts})


def start(node: DictConfig, settings: RunConfig, run: RunFolder) -> Parallelism:
    """Join the other processes, if there are any.

    Raises:
        MaquetteError: the sizes under ``parallel`` do not fit the number of processes, or each other.
    """
    strategy = plugins.build("strategies", resolve_block(node, "strategy"))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        record_flights(run.path)
    return Parallelism(settings.parallel, strategy, Precision.of(settings.train))


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
        where = f"{key} '{entry.name}'"
        if key in ("strategy", "optimizer"):  # these need no facts of the dataset, so their values are known already
            blocks.instantiate(
                entry.config, {k: v for k, v in resolve_block(node, key).items() if k != "name"}, where=where
            )
        else:
            blocks.merge(entry.config, block, where=where)


def _without_blocks(node: DictConfig) -> DictConfig:
    """The skeleton alone: its interpolations may be resolved before the dataset has given its facts."""
    bare = node.copy()
    for key in (*BLOCKS, "pipeline"):
        bare[key] = {}
    return bare
