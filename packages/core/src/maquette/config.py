"""What a run is: the strict skeleton, and how it is read from defaults, a YAML file and ``key=value`` words.

Core checks the skeleton. Blocks (``model: {name: dit, width: 256}``) stay open here: each is checked against its
plugin's own dataclass when it is built. Strings never name code; only registered names are built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maquette.blocks import merge
from maquette.errors import MaquetteError
from maquette.monitor_config import MonitorConfig
from maquette.value_checks import at_least, one_of
from maquette.yaml_bounds import bounded_text

T = TypeVar("T")

PRECISIONS = ("fp32", "bf16", "fp8")
STORAGES = ("fp32", "bf16")
FP8_RECIPES = ("rowwise", "rowwise_with_gw_hp")
CLIPS = ("norm", "adaptive", "none")
ACTIVATIONS = ("none", "full", "selective", "budget")
GATES = ("off", "warn", "require")


@dataclass
class ParallelConfig:
    """How many processes share the work along each axis; 0 claims none.

    Processes that are left over go to the axis of ``strategy``. The product must be the number of processes.
    """

    data: int = 0
    """Copies of the model that see different samples."""
    shard: int = 0
    """Processes over which one copy's parameters, gradients and optimizer are sharded."""
    expert: int = 1
    """Processes over which the experts of a mixture are spread."""
    context: int = 1
    """Processes over which the tokens of one sample are spread."""
    tensor: int = 1
    """Processes over which the columns and rows of a layer's matrices are spread."""
    pipeline: int = 1
    """Processes over which the blocks are spread."""
    schedule: str = "1f1b"
    """Of the pipeline."""
    microbatches: int = 0
    """Into which the pipeline cuts a process's batch; 0 takes twice as many as there are stages, where that divides."""
    attention: str = "ulysses"
    """The strategy of the context axis: ulysses, ring or all_gather."""
    timeout_minutes: float = 30.0
    """How long processes wait for each other before that is an error."""

    def __post_init__(self) -> None:
        for key in ("data", "shard"):
            at_least(f"parallel.{key}", getattr(self, key), 0)
        for key in ("expert", "context", "tensor", "pipeline"):
            at_least(f"parallel.{key}", getattr(self, key), 1)
        at_least("parallel.microbatches", self.microbatches, 0)
        if self.timeout_minutes <= 0:
            raise ValueError(f"'parallel.timeout_minutes' is {self.timeout_minutes}; it must be positive")


@dataclass
class TrainConfig:
    """How long, how precisely, and how often to look."""

    steps: int = 1000
    precision: str = "fp32"
    """Of the arithmetic: fp32, bf16 or fp8."""
    parameters: str = "fp32"
    """As what the weights are stored: fp32 or bf16."""
    fp8_min_width: int = 1536
    """The least width, in and out, of a linear layer that fp8 replaces: narrower ones would not gain."""
    fp8_recipe: str = "rowwise"
    """rowwise, or rowwise_with_gw_hp, which takes the weights' gradients in bf16."""
    compile: bool = False
    """Compile each block."""
    compile_backend: str = "inductor"
    activation_checkpointing: str = "none"
    """What is computed again in the backward pass: none, full, selective, or as a memory budget wants it."""
    memory_budget: float = 0.5
    """The share of activations to keep, with activation_checkpointing=budget."""
    accumulate: int = 1
    """Micro-batches an optimizer step; the batch size is that of a micro-batch."""
    clip: str = "norm"
    """norm, adaptive (the 95th percentile of recent norms), or none."""
    clip_norm: float = 1.0
    """The largest norm of the whole gradient; 0 turns clipping off."""
    ema_decays: list[float] = field(default_factory=lambda: [0.999])
    """One averaged copy of the weights for each decay; the longest is sampled from. An empty list keeps none."""
    nonfinite_skips: int = 5
    """Steps in a row that may be left out for a loss or gradient that is not finite, or for a loss spike; one more goes
    back to the last checkpoint. 0 makes the first one that is not finite an error."""
    spike_threshold: float = 20.0
    """A loss is a spike when it is above the median of the last ones by so many times their spread; 0 finds none."""
    spike_window: int = 128
    """Steps whose losses are remembered for that; in the first half of as many nothing is a spike."""
    replica_check_every: int = 100
    """Steps between comparing the bits of all copies of the state, also done before each checkpoint; 0 never."""
    replay_every: int = 0
    """Steps between computing a micro-batch twice and comparing the bits; needs deterministic operations; 0 never."""
    log_every: int = 10
    validate_every: int = 200
    """Steps between validations; 0 validates at the end alone."""
    validate_average: bool = False
    """Validate with the averaged weights (the first of ema_decays) instead of the weights themselves."""
    checkpoint_every: int = 500
    checkpoint_async: bool = True
    """Write checkpoints while training goes on."""
    keep_checkpoints: int = 2
    keep_best: int = 0
    """Beside the newest, so many with the lowest validation loss, of the checkpoints of steps that were validated."""
    threads: int = 0
    """Torch threads; 0 leaves torch's own choice."""

    def __post_init__(self) -> None:
        one_of("train.precision", self.precision, PRECISIONS)
        one_of("train.parameters", self.parameters, STORAGES)
        one_of("train.fp8_recipe", self.fp8_recipe, FP8_RECIPES)
        at_least("train.fp8_min_width", self.fp8_min_width, 16)
        one_of("train.clip", self.clip, CLIPS)
        one_of("train.activation_checkpointing", self.activation_checkpointing, ACTIVATIONS)
        for key in ("steps", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints"):
            at_least(f"train.{key}", getattr(self, key), 1)
        at_least("train.spike_window", self.spike_window, 8)
        for key in ("clip_norm", "validate_every", "threads", "keep_best", "nonfinite_skips", "spike_threshold"):
            at_least(f"train.{key}", getattr(self, key), 0)
        for key in ("replica_check_every", "replay_every"):
            at_least(f"train.{key}", getattr(self, key), 0)
        if not 0 < self.memory_budget <= 1:
            raise ValueError(f"'train.memory_budget' is {self.memory_budget}; it must be in (0, 1]")
        if self.validate_average and not self.ema_decays:
            raise ValueError("'train.validate_average' needs an average; give train.ema_decays, e.g. [0.999]")
        if len(set(self.ema_decays)) < len(self.ema_decays) or not all(0 < d < 1 for d in self.ema_decays):
            raise ValueError(f"'train.ema_decays' is {list(self.ema_decays)}; it must be different numbers in (0, 1)")


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
    strategy: dict[str, Any] = field(default_factory=lambda: {"name": "ddp"})
    optimizer: dict[str, Any] = field(default_factory=lambda: {"name": "adamw"})
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    doctor: str = "warn"
    """Of a quick look at all machines before the first step: off; warn says what is critical; require stops there."""
    pipeline: dict[str, Any] | None = None
    """What makes assets of the trained run, for a generator: used by ``maquette sample`` and by serving."""
    loggers: list[str] = field(default_factory=lambda: ["csv", "tensorboard"])
    resume: str | None = None
    """A run folder to continue, bit for bit; ``auto`` continues this run where it has a checkpoint."""
    start_from: str | None = None
    """A run folder whose weights to start from (finetuning)."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the dataset says of itself (classes, vocabulary, ...); filled in by the runner, used as ``${facts:key}``."""

    def __post_init__(self) -> None:
        self.doctor = "off" if self.doctor == "False" else self.doctor  # which is how YAML reads a bare off
        one_of("doctor", self.doctor, GATES)


def read_yaml(path: str | Path) -> DictConfig:
    """A YAML file as an OmegaConf mapping.

    Raises:
        MaquetteError: the file is missing, is not YAML, or does not hold a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise MaquetteError(f"config file '{path}' does not exist")
    try:
        node = OmegaConf.create(bounded_text(path))
    except Exception as error:  # YAML parsers raise a family of their own, OmegaConf another, decoding a third
        reason = " ".join(str(error).split())
        raise MaquetteError(f"config file '{path}' is not valid YAML: {reason}") from None
    if not isinstance(node, DictConfig):
        raise MaquetteError(f"config file '{path}' must hold a mapping of keys to values")
    return node


def split_words(text: str) -> list[str]:
    """``"a,b=1,c=[2,3],d=red, blue"`` at the commas before a key: ``["a", "b=1", "c=[2,3]", "d=red, blue"]``."""
    return re.split(r",(?=[\w.]+=)", text)


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
        return cast(dict[str, Any], OmegaConf.to_container(node[key], resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        text = str(error).strip().split("\n")[0]
        raise MaquetteError(f"the config, at '{key}': {text}") from None
