"""Sequences written by a model token by token, several at once, each from its own random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.inference_device import device_of
from maquette_models.transformer.causal_transformer import CausalTransformer


class Writing(Protocol):
    """A sequence under way and its grammar.

    Attributes:
        finished: its end is written.
        place: on the grid, what the last token tells of; `levels` for coordinates that are none.
        position: of the last token.
    """

    finished: bool
    place: tuple[int, int, int] | None
    position: tuple[int, int, int]

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token may come next, bool [V]."""

    def accept(self, token: int) -> None:
        """Write a token."""


Written = TypeVar("Written", bound=Writing)
Choice = Callable[[NDArray[np.float32], NDArray[np.bool_], float], int]


class Author(Generic[Written]):
    """One sequence under way, with the random numbers that are its own.

    Args:
        writing: nothing is written of it yet.
        choice: a token from logits [V], which of them are allowed and a random number in [0, 1).
        first: the token that it begins with.
        end: the token that ends it.
    """

    def __init__(self, writing: Written, choice: Choice, seed: int, *, first: int, end: int) -> None:
        self.writing, self.choice, self.end = writing, choice, end
        self.rng = np.random.default_rng(seed)
        self.tokens: list[int] = []
        self.cut = False
        self._write(first)

    def go_on(self, logits: NDArray[np.float32]) -> None:
        """Choose and write the next token; nothing more after the end."""
        if self.writing.finished:
            return
        allowed = self.writing.allowed()
        token = self.choice(logits, allowed, self.rng.random())
        self.cut = token == self.end and int(allowed.sum()) == 1 and int(logits.argmax()) != self.end
        self._write(token)

    def _write(self, token: int) -> None:
        self.writing.accept(token)
        self.tokens.append(token)


@torch.inference_mode()
def write_sequences(
    model: CausalTransformer, condition: Mapping[str, Tensor], authors: Sequence[Author], most: int, rows: int = 0
) -> None:
    """Let each author write to the end, for each row of a condition that `encode_condition` gave.

    Args:
        most: bound of tokens.
        rows: fill up to so many rows. Products of matrices sum in an order that depends on the number of rows: with
            always the same number a sequence does not depend on how many are written beside it.
    """
    rows = max(rows, len(authors))
    device = device_of(model)
    filled = torch.arange(rows).clamp(max=len(authors) - 1)
    condition = {key: value[filled] for key, value in condition.items()}
    reading = model.reading(rows, most)
    while not all(author.writing.finished for author in authors):
        inputs = (value[filled].to(device) for value in last_tokens(authors, model.vocabulary.levels))
        logits = model.step(*inputs, condition, reading)[:, -1].float().cpu().numpy()
        for author, row in zip(authors, logits, strict=False):
            author.go_on(row)


def last_tokens(authors: Sequence[Author], levels: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `step` reads of the last token of each: tokens [B,1], places [B,1,3], positions [B,1,3]."""
    tokens = torch.tensor([[author.tokens[-1]] for author in authors])
    places = torch.tensor([[author.writing.place or (levels,) * 3] for author in authors])
    positions = torch.tensor([[author.writing.position] for author in authors], dtype=torch.float32)
    return tokens, places, positions
