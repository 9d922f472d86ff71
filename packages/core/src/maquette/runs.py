"""A run's folder: what is in it, who may write to it, and how a trained model comes back out of it.

config.yaml        the resolved configuration, facts of the dataset included
environment.json   seeds, package and plugin versions, machine, command line
checkpoints/       see maquette.checkpoint
logs/              one folder a logger
result.json        written last: the run is finished
"""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from maquette import plugins
from maquette.config import RunConfig, load, read_yaml, resolve_block, set_facts
from maquette.durable import write_json, write_text
from maquette.environment import describe_environment
from maquette.errors import MaquetteError
from maquette.json_text import read_json
from maquette.ownership import Ownership
from maquette.secrets import holds_secret

if TYPE_CHECKING:
    import torch
    from torch import nn

# "${name:" that no backslash takes its meaning from.
_RESOLVER = re.compile(r"(?<!\\)(?:\\\\)*\$\{\s*([\w.]+)\s*:")


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run and the reading and writing of its small files."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Where the loggers write."""
        return self.path / "logs"

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def result_file(self) -> Path:
        """Present when the run is finished."""
        return self.path / "result.json"

    @property
    def finished(self) -> bool:
        """Whether the run has ended by itself."""
        return self.result_file.is_file()

    def write_config(self, config: DictConfig) -> None:
        """Write the configuration, without its secrets: they are to be given again when the run is used again."""
        write_text(self.config_file, _without_secrets(config))

    def write_environment(self, seed: int) -> None:
        """Write seeds, versions, machine and command line."""
        write_json(self.path / "environment.json", describe_environment(seed))

    def read_config(self) -> DictConfig:
        """The configuration the run was started with.

        A run may come from a stranger: it reads no environment variables of this machine (``${oc.env:NAME}`` counts as
        not given) and brings no code with it.

        Raises:
            MaquetteError: this is not a run's folder, or names a plugin file inside it.
        """
        if not self.config_file.is_file():
            raise MaquetteError(f"'{self.path}' is not a run: it has no config.yaml; give the folder of a training run")
        plain = cast(dict[str, Any], OmegaConf.to_container(read_yaml(self.config_file)))
        named = plain.get("plugins") or []
        if any(_reads_elsewhere(str(file), "") for file in ([named] if isinstance(named, str) else named)):
            raise MaquetteError(
                f"'{self.config_file}' names the plugins {named}, and a run reads no environment variables; "
                "write their paths there"
            )
        config = load(RunConfig, OmegaConf.create(_changed(plain, _reads_elsewhere)))
        for file in config.plugins:
            if Path(file).resolve().is_relative_to(self.path.resolve()):
                raise MaquetteError(
                    f"'{self.config_file}' names the plugin '{file}' in its own folder, and plugins are code; "
                    "read it, move it elsewhere, and name it there"
                )
        return config

    @contextmanager
    def owned(self, patience: float = 0.0) -> Iterator[Ownership]:
        """Hold the folder against a second writer; ``patience`` are seconds to wait until the first has gone.

        Raises:
            MaquetteError: another process trains into it.
        """
        owner = Ownership(self.path, patience)
        try:
            yield owner
        finally:
            owner.release()

    def discard(self) -> None:
        """Remove the folder of a run that came to nothing; not while another process trains into it."""
        with suppress(MaquetteError, OSError), self.owned():
            shutil.rmtree(self.path)

    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """All curves that the CSV logger wrote: name -> (step, value). Later sessions win where steps repeat."""
        curves: dict[str, dict[int, float]] = {}
        files = self.logs.glob("csv/version_*/metrics.csv")
        for file in sorted(files, key=lambda f: int(f.parent.name.removeprefix("version_"))):
            with file.open(newline="") as text:
                for row in csv.DictReader(text):
                    for name, value in row.items():
                        if name != "step" and value:
                            curves.setdefault(name, {})[int(row["step"])] = float(value)
        return {name: sorted(points.items()) for name, points in curves.items()}


def _changed(value: Any, refused: Callable[[str, str], bool], name: str = "") -> Any:
    """Plain data with OmegaConf's mark of what must be given, "???", for every text that is refused."""
    if isinstance(value, Mapping):
        return {key: _changed(inner, refused, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_changed(inner, refused, name) for inner in value]
    return MISSING if isinstance(value, str) and refused(value, name) else value


def _without_secrets(config: DictConfig) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(_changed(OmegaConf.to_container(config), holds_secret)))


def _reads_elsewhere(value: str, name: str) -> bool:
    """Whether an interpolation leads out of the configuration and the facts of its dataset."""
    return any(resolver != "facts" for resolver in _RESOLVER.findall(value))


def claim(file: Path, config: DictConfig) -> None:
    """Write down the configuration of something that is made of several runs, or find it there as it is.

    Args:
        file: e.g. FOLDER/pretrain.yaml. Keys that it lacks, because it is older, count as having their defaults.
        config: a node of a dataclass, see :func:`maquette.config.load`; its key ``resume``, if any, is left out.

    Raises:
        MaquetteError: the folder was started with another configuration.
    """
    text = _without_resume(config)
    if file.exists() and _without_resume(load(cast(type, OmegaConf.get_type(config)), read_yaml(file))) != text:
        folder = file.parent
        raise MaquetteError(f"'{folder}' was started with another config; choose another name=, or use resume={folder}")
    write_text(file, text)


def _without_resume(config: DictConfig) -> str:
    return _without_secrets(OmegaConf.masked_copy(config, [str(key) for key in config if key != "resume"]))


@dataclass(frozen=True)
class Run:
    """A trained model and what it was trained as."""

    folder: Path
    config: DictConfig
    facts: dict[str, Any]
    model: nn.Module
    step: int


def load_run(folder: str | Path, device: torch.device | str = "cpu") -> Run:
    """Rebuild a run's model from its configuration and load its averaged weights, in eval mode, onto a device.

    Raises:
        MaquetteError: not a run, no whole checkpoint, or weights that do not fit the model.
    """
    from maquette import checkpoint

    run = RunFolder(Path(folder))
    config = run.read_config()
    plugins.load_files(config.plugins)
    if "base" in config.model:  # finetuned on another run, which may have moved with this one
        config.model.base = str(relative_run(config.model.base, run.path))
    found, _ = checkpoint.newest(run.checkpoints, only=("model", "average*"))
    model = build_model(config)
    load_weights(model, found.read(checkpoint.weights_part(found.parts)), str(found.path))
    facts = cast(dict[str, Any], OmegaConf.to_container(config.facts))
    return Run(run.path, config, facts, model.eval().to(device), int(found.state["step"]))


def build_model(config: DictConfig) -> nn.Module:
    """Build a run's ``model`` block, the dataset's facts being known."""
    set_facts(cast(dict[str, Any], OmegaConf.to_container(config.facts)))
    return cast("nn.Module", plugins.build("architectures", resolve_block(config, "model")))


def load_weights(model: nn.Module, weights: Mapping[str, Any], source: str) -> None:
    """Load weights strictly.

    Raises:
        MaquetteError: names or shapes differ; says how many and the first.
    """
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    check_weights(shapes, weights, source, type(model).__name__)
    model.load_state_dict(dict(weights))


def check_weights(shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, Any], source: str, kind: str) -> None:
    """Refuse weights that are of another model.

    Args:
        shapes: of the model's own weights, all of them.
        weights: to be loaded.
        source: where they come from.
        kind: what the model is, for the message.

    Raises:
        MaquetteError: names or shapes differ; says how many and the first.
    """
    odd = [f"{name} is missing there" for name in shapes if name not in weights]
    odd += [f"{name} is unknown here" for name in weights if name not in shapes]
    odd += [
        f"{name} is {list(weights[name].shape)} there and {list(shape)} here"
        for name, shape in shapes.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    if odd:
        raise MaquetteError(
            f"'{source}' holds weights of another architecture than {kind}: {len(odd)} differ, e.g. {odd[0]}"
        )


def read_weights(folder: str | Path) -> tuple[str, dict[str, Any]]:
    """A run's averaged weights (or its own, where it keeps no average) and the checkpoint they come from.

    Raises:
        MaquetteError: no whole checkpoint.
    """
    from maquette import checkpoint

    found, _ = checkpoint.newest(RunFolder(Path(folder)).checkpoints, only=("model", "average*"))
    return str(found.path), found.read(checkpoint.weights_part(found.parts))


def relative_run(reference: str | Path, owner: Path) -> Path:
    """The folder of a run that another run's config names, also when both were moved together.

    Raises:
        MaquetteError: neither the named folder nor a sibling of ``owner`` of that name is a run.
    """
    named = Path(reference)
    for candidate in (owner.parent / named.name, named):
        if RunFolder(candidate).config_file.is_file():
            return candidate
    raise MaquetteError(f"run '{named}', which '{owner}' builds on, is not there; move both folders together")


def read_result(folder: Path) -> dict[str, Any]:
    """What a finished run's ``result.json`` says."""
    return cast(dict[str, Any], read_json(RunFolder(folder).result_file))


def is_main_process() -> bool:
    """True on the one process that writes files."""
    return int(os.environ.get("RANK", "0")) == 0
