"""What a run is: the strict skeleton, and how it is read from defaults, a YAML file and ``key=value`` words.

Core checks the skeleton. Blocks (``model: {name: dit, width: 256}``) stay open here: each is checked against its
plugin's own dataclass when it is built. Strings never name code; only registered names are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maquette.blocks import merge
from maquette.errors import MaquetteError

T = TypeVar("T")

PRECISIONS = ("fp32", "bf16")
SCHEDULES = ("constant", "linear", "cosine")
OPTIMIZERS = ("adamw",)


def _one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"'{key}' is '{value}'; known: {', '.join(known)}")


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"'{key}' is {value}; it must be at least {least}")


@dataclass
class OptimizerConfig:
    """AdamW and its learning-rate schedule (Loshchilov & Hutter 2019)."""

    name: str = "adamw"
    learning_rate: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    weight_decay: float = 0.01
    warmup_steps: int = 50
    schedule: str = "cosine"
    min_ratio: float = 0.02
    """The learning rate at the end, as a share of the highest."""

    def __post_init__(self) -> None:
        _one_of("optimizer.name", self.name, OPTIMIZERS)
        _one_of("optimizer.schedule", self.schedule, SCHEDULES)
        _at_least("optimizer.learning_rate", self.learning_rate, 0.0)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"'optimizer.betas' is {self.betas}; it must be two numbers in [0, 1)")


@dataclass
class TrainConfig:
    """How long, how precisely, and how often to look."""

    steps: int = 1000
    precision: str = "fp32"
    accumulate: int = 1
    """Micro-batches an optimizer step; the batch size is that of a micro-batch."""
    clip_norm: float = 1.0
    """The largest norm of the whole gradient; 0 turns clipping off."""
    ema_decay: float = 0.999
    log_every: int = 10
    validate_every: int = 200
    """Steps between validations; 0 validates at the end alone."""
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    threads: int = 0
    """Torch threads; 0 leaves torch's own choice."""

    def __post_init__(self) -> None:
        _one_of("train.precision", self.precision, PRECISIONS)
        for key in ("steps", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints"):
            _at_least(f"train.{key}", getattr(self, key), 1)
        for key in ("clip_norm", "validate_every", "threads"):
            _at_least(f"train.{key}", getattr(self, key), 0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"'train.ema_decay' is {self.ema_decay}; it must be in [0, 1)")


@dataclass
class RunConfig:
    """One training run."""

    name: str = "run"
    folder: str = "runs/${name}"
    seed: int = 0
    plugins: list[str] = field(default_factory=list)
    """Loose-file plugins, beside the installed ones."""
    data: dict[str, Any] = MISSING
    model: dict[str, Any] = MISSING
    objective: dict[str, Any] = MISSING
    strategy: dict[str, Any] = field(default_factory=lambda: {"name": "single"})
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    pipeline: dict[str, Any] | None = None
    """What makes assets of the trained run, for a generator: used by ``maquette sample`` and by serving."""
    loggers: list[str] = field(default_factory=lambda: ["csv", "tensorboard"])
    resume: str | None = None
    """A run folder to continue, bit for bit."""
    start_from: str | None = None
    """A run folder whose weights to start from (finetuning)."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the dataset says of itself (classes, vocabulary, ...); filled in by the runner, used as ``${facts:key}``."""


def read_yaml(path: str | Path) -> DictConfig:
    """A YAML file as an OmegaConf mapping.

    Raises:
        MaquetteError: the file is missing, is not YAML, or does not hold a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise MaquetteError(f"config file '{path}' does not exist")
    try:
        node = OmegaConf.load(path)
    except Exception as error:  # YAML parsers raise a family of their own, OmegaConf another, decoding a third
        reason = " ".join(str(error).split())
        raise MaquetteError(f"config file '{path}' is not valid YAML: {reason}") from None
    if not isinstance(node, DictConfig):
        raise MaquetteError(f"config file '{path}' must hold a mapping of keys to values")
    return node


def read_words(words: Sequence[str]) -> DictConfig:
    """``["train.steps=10"]`` as an OmegaConf mapping.

    Raises:
        MaquetteError: a word is not ``key=value``.
    """
    for word in words:
        if "=" not in word or word.startswith("="):
            raise MaquetteError(f"'{word}' is not of the form key=value, e.g. train.steps=500")
    try:
        return OmegaConf.from_dotlist(list(words))
    except Exception as error:  # as in read_yaml
        raise MaquetteError(f"cannot read {' '.join(words)}: {' '.join(str(error).split())}") from None


def load(config: type[T], *sources: DictConfig | Mapping[str, Any]) -> DictConfig:
    """Merge sources over a dataclass's defaults, later over earlier, and check the result.

    The node stays an OmegaConf mapping, so that interpolations are resolved late; see :func:`checked`.

    Raises:
        MaquetteError: unknown key, wrong type, bad value.
    """
    return merge(config, *sources, where="the config")


def checked(node: DictConfig) -> Any:
    """The dataclass instance of a loaded config, all interpolations resolved and all values checked.

    Raises:
        MaquetteError: an interpolation leads nowhere, a required value is missing, a value is refused.
    """
    missing = sorted(OmegaConf.missing_keys(node))
    if missing:
        raise MaquetteError(f"the config: '{missing[0]}' must be given")
    try:
        return OmegaConf.to_object(node)
    except OmegaConfBaseException as error:
        text = str(error).strip().split("\n")[0]
        raise MaquetteError(f"the config: {text}") from None
    except ValueError as error:
        raise MaquetteError(f"the config: {error}") from None


def load_run_config(path: str | Path | None, words: Sequence[str]) -> DictConfig:
    """A :class:`RunConfig` node from an optional YAML file and ``key=value`` words."""
    sources = [read_yaml(path)] if path is not None else []
    return load(RunConfig, *sources, read_words(words))


class _NoFact(Exception):
    pass


def set_facts(facts: Mapping[str, Any]) -> None:
    """Make ``${facts:key}`` resolve to what the dataset says of itself."""

    def resolver(key: str) -> Any:
        if key not in facts:
            raise _NoFact(f"the dataset gives no fact '{key}'; it gives: {', '.join(sorted(facts)) or 'none'}")
        return facts[key]

    OmegaConf.register_resolver("facts", resolver, replace=True)


def resolve_block(node: DictConfig, key: str) -> dict[str, Any]:
    """One block of a run as plain data, its interpolations resolved.

    Raises:
        MaquetteError: the block is missing or an interpolation leads nowhere.
    """
    if OmegaConf.is_missing(node, key):
        raise MaquetteError(f"the config: '{key}' must be given, e.g. {key}.name=...")
    try:
        return cast(dict[str, Any], OmegaConf.to_container(node[key], resolve=True))
    except OmegaConfBaseException as error:
        text = str(error).strip().split("\n")[0]
        raise MaquetteError(f"the config, at '{key}': {text}") from None
