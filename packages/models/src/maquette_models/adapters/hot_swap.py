"""Adapters on a model that is in use: put on, changed and taken off between requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from maquette.errors import MaquetteError
from maquette_models.adapters import low_rank, vocabulary
from maquette_models.adapters.adapter_file import Adapter, read_adapter
from maquette_models.adapters.low_rank import LowRankChange
from maquette_models.adapters.vocabulary import NewWords
from maquette_models.latents.latent_cache import weights_hash

Stack = Sequence[tuple[Adapter, float]]
"""Adapters and by what each is multiplied."""


class HotSwap:
    """What a pipeline with a `model` and a `config.run` inherits to take adapters."""

    model: nn.Module
    config: Any
    _own: Stack = ()

    @cached_property
    def base_sha256(self) -> str:
        """The hash of the model's weights as they came from the run."""
        return weights_hash(self.model)

    def use_adapters(self, references: Sequence[str]) -> None:
        """Replace the adapters in use by "FILE" or "FILE:scale", each a file or the folder of a finetuned run.

        With none the model is what it was before any, bit for bit.

        Raises:
            MaquetteError: no such adapter, a scale that is no number, or one of another base; those in use stay.
        """
        base = self.base_sha256  # taken before the first adapter is put on
        stack = [(read_adapter(path), scale) for path, scale in map(parse_reference, references)]
        for adapter, _ in stack:
            adapter.check_base(base, self.config.run)
        self._own = stack
        self.wear([])

    def wear(self, stack: Stack) -> None:
        """Put adapters of this base on, for a while, beside those in use; in the stead of others that were put on so.

        Raises:
            MaquetteError: the weights are stored small; nothing can be added to them.
        """
        low_rank.check_weights_as_trained(self.model)
        take_off(self.model)
        put_on(self.model, [*self._own, *stack])


def parse_reference(reference: str) -> tuple[str, float]:
    """ "style.safetensors:0.8" -> the path and .8; without a scale 1.

    Raises:
        MaquetteError: what follows the colon is no number.
    """
    path, colon, scale = reference.rpartition(":")
    if not colon or "/" in scale or "\\" in scale:
        return reference, 1.0
    try:
        number = float(scale)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise MaquetteError(f"adapter '{reference}': '{scale}' is no number; write FILE or FILE:0.8")
    return path, number


def put_on(model: nn.Module, stack: Stack) -> None:
    """Put adapters on a model that has none. A word that several bring is that of the first."""
    low_rank.attach(model, stacked(stack))
    words = all_words([adapter.words for adapter, _ in stack])
    if words.classes or words.words:
        vocabulary.widen(model.conditioner, words)
    model.requires_grad_(False)


def take_off(model: nn.Module) -> None:
    """Give a model back its own layers and tables."""
    low_rank.detach(model)
    if vocabulary.takes_words(model.conditioner):
        vocabulary.narrow(model.conditioner)


def merge(model: nn.Module, stack: Stack) -> None:
    """Make adapters part of a model's own weights and tables: it then is as one that was built with all the words."""
    low_rank.add_to_weights(model, stacked(stack))
    words = all_words([adapter.words for adapter, _ in stack])
    if words.classes or words.words:
        vocabulary.widen(model.conditioner, words)
        vocabulary.settle(model.conditioner)


def unmerge(model: nn.Module, stack: Stack) -> None:
    """Take the changes of merged adapters out of the weights, to rounding; their words stay."""
    low_rank.add_to_weights(model, stacked(stack), sign=-1.0)


def stacked(stack: Stack) -> dict[str, list[LowRankChange]]:
    """The changes of each layer, scaled."""
    changes: dict[str, list[LowRankChange]] = {}
    for adapter, scale in stack:
        for name, change in adapter.changes.items():
            changes.setdefault(name, []).append(LowRankChange(change.down, scale * change.up))
    return changes


def all_words(parts: Sequence[NewWords]) -> NewWords:
    """What several adapters know, each class and word once, as the first that has it knows it."""
    classes = {name: row for part in reversed(parts) for name, row in zip(part.classes, part.class_rows, strict=True)}
    words = {name: row for part in reversed(parts) for name, row in zip(part.words, part.word_rows, strict=True)}
    rows = [torch.stack(list(table.values())) if table else torch.empty(0, 0) for table in (classes, words)]
    return NewWords(tuple(classes), tuple(words), rows[0], rows[1])
