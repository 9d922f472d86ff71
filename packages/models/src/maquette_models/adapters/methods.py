"""What `maquette finetune RUN method=...` trains: low-rank changes of a run's model, or some of its own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import MISSING, OmegaConf
from torch import nn

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.runs import RunFolder, load_run, read_weights
from maquette_models.adapters.freezing import chosen_parameters, hide_frozen, train_only
from maquette_models.adapters.low_rank import insert, matching_layers
from maquette_models.adapters.vocabulary import missing, takes_words, untrained, widen
from maquette_models.latents.latent_cache import weights_hash

TARGETS = ("*attention.to_*", "*attention.out", "*mlp*")


@dataclass
class BasedConfig:
    """What every method knows of the model that it starts from.

    `base` is the run, `base_sha256` the hash of its weights, as `maquette finetune` found them. `classes` and `words`
    are those that the base does not know; they get rows of their own.
    """

    base: str = MISSING
    base_sha256: str = ""
    classes: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @staticmethod
    def on_run(run: Path, facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The block of a model on a run, for data that has some facts, and the facts of the finetuned run."""
        base = load_run(run)
        block: dict[str, Any] = {"base": str(run), "base_sha256": weights_hash(base.model)}
        if not takes_words(getattr(base.model, "conditioner", nn.Identity())):
            return block, {}
        grown = {"classes": "classes", "vocabulary": "words"}
        for fact, key in grown.items():
            block[key] = missing(base.facts.get(fact, []), facts.get(fact, []))
        return block, {fact: [*base.facts.get(fact, []), *block[key]] for fact, key in grown.items()}


@dataclass
class LoRAConfig(BasedConfig):
    """`rank` of each change, which is multiplied by `alpha / rank` (0 means alpha = rank); `targets` are globs over
    the names of linear layers. `dropout` is that of what the changes read."""

    rank: int = 4
    alpha: float = 0.0
    dropout: float = 0.0
    targets: list[str] = field(default_factory=lambda: list(TARGETS))

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 0 or not 0 <= self.dropout < 1:
            raise ValueError("'rank' must be at least 1, 'alpha' not negative, 'dropout' in [0, 1)")


@dataclass
class PartialConfig(BasedConfig):
    """Globs over the names of parameters: what `train_only` matches (all, if it is empty) and `freeze` does not is
    trained, and with it the rows of new classes and words."""

    train_only: list[str] = field(default_factory=list)
    freeze: list[str] = field(default_factory=list)


def lora(config: LoRAConfig) -> nn.Module:
    """Low-rank changes beside the linear layers of a frozen model; its checkpoints hold the changes alone."""
    model = base_model(config)
    layers = matching_layers(model, config.targets)
    insert(model, layers, config.rank, (config.alpha or config.rank) / config.rank, config.dropout)
    changes = [f"{layer}.{part}" for layer in layers for part in ("down", "up")]
    return _trained(model, [*changes, *_new_rows(model)])


def partial(config: PartialConfig) -> nn.Module:
    """Some parameters of a run's model, the others frozen; its checkpoints hold those that are trained alone."""
    model = base_model(config)
    return _trained(model, {*chosen_parameters(model, config.train_only, config.freeze), *_new_rows(model)})


def base_model(config: BasedConfig) -> nn.Module:
    """The model of the base with its weights and with rows for what is new.

    On the meta device, where models are built to be looked at or filled by another process, the weights are not read.

    Raises:
        MaquetteError: no such run, or its weights are not those that the finetuned run started from.
    """
    run = RunFolder(Path(config.base))
    block = cast(dict[str, Any], OmegaConf.to_container(run.read_config().model))
    model = cast(nn.Module, plugins.build("architectures", block))
    if torch.get_default_device().type != "meta":
        model.load_state_dict(read_weights(run.path)[1])
        if config.base_sha256 and weights_hash(model) != config.base_sha256:
            raise MaquetteError(
                f"'{run.path}' has other weights than those that were finetuned ({config.base_sha256[:12]}); "
                "give model.base the run as it was, or finetune anew"
            )
    if config.classes or config.words:
        widen(model.conditioner, untrained(model.conditioner, config.classes, config.words))
    return model


def _new_rows(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters() if name.endswith("_embedding.rows")]


def _trained(model: nn.Module, names: Any) -> nn.Module:
    train_only(model, names)
    hide_frozen(model)
    model.tensor_parallel_plan = dict  # nothing is split: tensor parallelism knows plain linear layers alone
    return model
