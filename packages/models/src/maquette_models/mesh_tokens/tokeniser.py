"""Meshes to token sequences and back, nothing lost of the mesh on its grid.

Block-compressed tokens after Weng et al., "Scaling Mesh Generation via Compressive Tokenization" (BPT), 2024, with a
token that closes a fan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette_models.mesh_tokens.fans import Fan, fans
from maquette_models.mesh_tokens.grammar import Grammar
from maquette_models.mesh_tokens.quantise import Codes, decode_places
from maquette_models.mesh_tokens.vocabulary import CLOSE, END, START, Vocabulary


@dataclass(frozen=True)
class Sequence:
    """A mesh as tokens, from START to END, and what a model is told beside each of them.

    Attributes:
        tokens: int64 [N].
        places: int64 [N, 3], the corner that an offset completes on the grid; `levels` for other tokens.
        positions: float32 [N, 3]: place in the sequence, number of the fan, place of the corner in its fan.
    """

    tokens: NDArray[np.int64]
    places: NDArray[np.int64]
    positions: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.tokens)


class Tokeniser:
    """Between canonical faces of codes (see `quantise`) and sequences."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def encode(self, faces: Codes) -> Sequence:
        """The one sequence of canonical faces [F, 3]."""
        levels = self.vocabulary.levels
        rows = [(START, -1, 0, 0), *self._rows(fans(faces))]
        rows.append((END, -1, rows[-1][2] + 1, 0))
        tokens, codes, fan, corner = np.array(rows, np.int64).T
        places = np.where(codes[:, None] < 0, levels, decode_places(codes.clip(0), levels))
        positions = np.stack([np.arange(len(tokens)), fan, corner], axis=1).astype(np.float32)
        return Sequence(tokens, places, positions)

    def decode(self, tokens: Iterable[int]) -> Codes:
        """The canonical faces [F, 3] of a sequence.

        Raises:
            MaquetteError: a token that cannot stand where it does, or no END.
        """
        writing = Grammar(self.vocabulary).start()
        for token in tokens:
            writing.accept(int(token))
        return writing.mesh_faces()

    def _rows(self, found: list[Fan]) -> Iterator[tuple[int, int, int, int]]:
        """Token, code of the corner it completes or -1, number of the fan from 1, and place of the corner in it."""
        vocabulary = self.vocabulary
        for number, fan in enumerate(found, 1):
            codes = np.array((fan.centre, *fan.rim))
            blocks, offsets = (values.tolist() for values in vocabulary.split(codes))
            yield vocabulary.centre + blocks[0], -1, number, 0
            yield vocabulary.offset + offsets[0], fan.centre, number, 0
            for corner in range(1, len(codes)):
                if blocks[corner] != blocks[corner - 1]:
                    yield vocabulary.block + blocks[corner], -1, number, corner
                yield vocabulary.offset + offsets[corner], int(codes[corner]), number, corner
            if fan.closed:
                yield CLOSE, -1, number, len(codes)
