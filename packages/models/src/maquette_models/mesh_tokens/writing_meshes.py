"""Meshes written by a model token by token, several at once, each from its own random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maquette.engine.randomness import fold
from maquette_models.mesh_tokens.choice import Choice
from maquette_models.mesh_tokens.grammar import Grammar, Writing
from maquette_models.mesh_tokens.mesh_transformer import MeshTransformer
from maquette_models.mesh_tokens.quantise import Codes
from maquette_models.mesh_tokens.vocabulary import END, START
from maquette_models.transformer.writing_sequences import Author, write_sequences


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


def author(grammar: Grammar, choice: Choice, seed: int) -> Author[Writing]:
    """The author of a mesh by a seed."""
    return Author(Writing(grammar), choice, fold("mesh_writing", seed), first=START, end=END)


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
        rows: see `write_sequences`.
    """
    authors = [author(grammar, choice, seed) for seed in seeds]
    write_sequences(model, condition, authors, grammar.max_tokens, rows)
    return [Written(np.array(a.tokens), a.writing.mesh_faces(), a.cut) for a in authors]
