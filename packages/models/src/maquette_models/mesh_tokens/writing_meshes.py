"""Meshes written by a model token by token, several at once, each from its own random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.engine.randomness import fold
from maquette_models.mesh_tokens.choice import Choice
from maquette_models.mesh_tokens.grammar import Grammar, Writing
from maquette_models.mesh_tokens.mesh_transformer import MeshTransformer
from maquette_models.mesh_tokens.quantise import Codes
from maquette_models.mesh_tokens.vocabulary import END, START


@dataclass(frozen=True)
class Written:
    """What was written for one request.

    Attributes:
        tokens: int64 [N], from START to END.
        faces: canonical faces [F, 3] of codes.
        cut: END came because the bounds left nothing else, and the model would have gone on.
    """

    tokens: NDArray[np.int64]
    faces: Codes
    cut: bool


class Author:
    """One sequence under way, with the random numbers that are its own."""

    def __init__(self, grammar: Grammar, choice: Choice, seed: int) -> None:
        self.writing, self.choice = Writing(grammar), choice
        self.rng = np.random.default_rng(fold("mesh_writing", seed))
        self.tokens: list[int] = []
        self.cut = False
        self._write(START)

    def go_on(self, logits: NDArray[np.float32]) -> None:
        """Choose and write the next token; nothing more after END."""
        if self.writing.finished:
            return
        allowed = self.writing.allowed()
        token = self.choice(logits, allowed, self.rng.random())
        self.cut = token == END and int(allowed.sum()) == 1 and int(logits.argmax()) != END
        self._write(token)

    def _write(self, token: int) -> None:
        self.writing.accept(token)
        self.tokens.append(token)


@torch.inference_mode()
def write_meshes(
    model: MeshTransformer,
    condition: Mapping[str, Tensor],
    seeds: Sequence[int],
    grammar: Grammar,
    choice: Choice,
    *,
    rows: int = 0,
) -> list[Written]:
    """One mesh for each row of a condition that `encode_condition` gave.

    Args:
        seeds: of each mesh's random numbers.
        grammar: with a bound of tokens.
        rows: fill up to so many rows. Products of matrices sum in an order that depends on the number of rows: with
            always the same number a mesh does not depend on how many are written beside it.
    """
    authors = [Author(grammar, choice, seed) for seed in seeds]
    rows = max(rows, len(authors))
    filled = torch.arange(rows).clamp(max=len(authors) - 1)
    condition = {key: value[filled] for key, value in condition.items()}
    reading = model.reading(rows, grammar.max_tokens)
    while not all(author.writing.finished for author in authors):
        tokens, places, positions = (value[filled] for value in last_tokens(authors))
        logits = model.step(tokens, places, positions, condition, reading)[:, -1].float().numpy()
        for author, row in zip(authors, logits, strict=False):
            author.go_on(row)
    return [Written(np.array(a.tokens), a.writing.mesh_faces(), a.cut) for a in authors]


def last_tokens(authors: Sequence[Author]) -> tuple[Tensor, Tensor, Tensor]:
    """What `step` reads of the last token of each: tokens [B,1], places [B,1,3], positions [B,1,3]."""
    nowhere = (authors[0].writing.vocabulary.levels,) * 3
    tokens = torch.tensor([[author.tokens[-1]] for author in authors])
    places = torch.tensor([[author.writing.place or nowhere] for author in authors])
    positions = torch.tensor([[author.writing.position] for author in authors], dtype=torch.float32)
    return tokens, places, positions
