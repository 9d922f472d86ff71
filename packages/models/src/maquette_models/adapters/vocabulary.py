"""Classes and words that a trained conditioner lacks: new rows beside its tables, whose old rows stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from maquette_models.conditioners.class_caption import SPECIAL, ClassCaption

NEW_ROW_STD = 0.5  # that of the tables themselves before training


class WiderEmbedding(nn.Module):
    """A table of a trained model, [N,W], with new rows [K,W] before its row ``at``: ids [...] int64 -> [...,W]."""

    def __init__(self, table: nn.Embedding, rows: Tensor, at: int) -> None:
        super().__init__()
        self.table, self.at = table, at
        self.rows = nn.Parameter(rows)

    def forward(self, ids: Tensor) -> Tensor:
        count = len(self.rows)
        new = (ids >= self.at) & (ids < self.at + count)
        known = torch.where(ids < self.at, ids, ids - count).masked_fill(new, 0)
        return torch.where(new[..., None], self.rows[(ids - self.at).clamp(0, count - 1)], self.table(known))

    def merged(self) -> nn.Embedding:
        """A plain table [N+K,W] of the same rows."""
        own = self.table.weight.detach()
        weight = torch.cat([own[: self.at], self.rows.detach().to(own), own[self.at :]])
        return nn.Embedding(*weight.shape, _weight=weight)


@dataclass(frozen=True)
class NewWords:
    """Classes and words with their rows, float32 [K,W] each."""

    classes: tuple[str, ...]
    words: tuple[str, ...]
    class_rows: Tensor
    word_rows: Tensor


def takes_words(conditioner: nn.Module) -> bool:
    """Whether a conditioner has tables of classes and words; others take any text as it is."""
    return isinstance(conditioner, ClassCaption)


def missing(known: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Those wanted that are not known, in order, each once."""
    return [name for name in dict.fromkeys(wanted) if name not in set(known)]


def untrained(conditioner: ClassCaption, classes: Sequence[str], words: Sequence[str]) -> NewWords:
    """Rows as an untrained table has them, from torch's global generator."""
    width, device = conditioner.config.width, conditioner.position.device
    class_rows, word_rows = (torch.randn(len(names), width, device=device) * NEW_ROW_STD for names in (classes, words))
    return NewWords(tuple(classes), tuple(words), class_rows, word_rows)


def widen(conditioner: ClassCaption, new: NewWords) -> None:
    """Teach a conditioner new classes and words; ids of old ones stay, except that no class at all is last again."""
    narrow(conditioner)
    if new.classes:
        table = WiderEmbedding(conditioner.class_embedding, new.class_rows, conditioner.null_class)
        conditioner.class_embedding = table
    if new.words:
        table = WiderEmbedding(conditioner.word_embedding, new.word_rows, len(conditioner.word_index))
        conditioner.word_embedding = table
    config = conditioner.config
    _know(conditioner, [*config.classes, *new.classes], [*config.vocabulary, *new.words])


def narrow(conditioner: ClassCaption) -> None:
    """Forget what `widen` taught; the tables are the very ones of before."""
    new = new_words(conditioner)
    for name in ("class_embedding", "word_embedding"):
        table = getattr(conditioner, name)
        if isinstance(table, WiderEmbedding):
            setattr(conditioner, name, table.table)
    config = conditioner.config
    classes = config.classes[: len(config.classes) - len(new.classes)]
    _know(conditioner, classes, config.vocabulary[: len(config.vocabulary) - len(new.words)])


def settle(conditioner: ClassCaption) -> None:
    """Make new rows part of the tables: afterwards the conditioner is as one that was built with all the words."""
    for name in ("class_embedding", "word_embedding"):
        table = getattr(conditioner, name)
        if isinstance(table, WiderEmbedding):
            setattr(conditioner, name, table.merged())


def new_words(conditioner: nn.Module) -> NewWords:
    """What `widen` taught, with the rows as they are now."""
    if not takes_words(conditioner):
        return NewWords((), (), torch.empty(0, 0), torch.empty(0, 0))
    config, tables = conditioner.config, (conditioner.class_embedding, conditioner.word_embedding)
    rows = [
        table.rows.detach() if isinstance(table, WiderEmbedding) else torch.empty(0, config.width) for table in tables
    ]
    classes, words = config.classes[len(config.classes) - len(rows[0]) :], config.vocabulary
    return NewWords(tuple(classes), tuple(words[len(words) - len(rows[1]) :]), rows[0], rows[1])


def _know(conditioner: ClassCaption, classes: list[str], vocabulary: list[str]) -> None:
    conditioner.config = replace(conditioner.config, classes=classes, vocabulary=vocabulary)
    conditioner.class_index = {name: index for index, name in enumerate(classes)}
    conditioner.word_index = {word: index for index, word in enumerate((*SPECIAL, *vocabulary))}
    conditioner.null_class = len(classes)
