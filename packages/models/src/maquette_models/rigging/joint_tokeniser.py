"""Skeletons to token sequences and back.

An order and a grammar of joints after Zhang et al., "One Model to Rig Them All: Diverse Skeleton Rigging with UniRig",
2025; parents are told by their number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette_models.rigging.joint_grammar import JointGrammar
from maquette_models.rigging.joint_vocabulary import END, START
from maquette_models.rigging.skeleton_tree import Tree


@dataclass(frozen=True)
class JointSequence:
    """A skeleton as tokens, and what a model is told beside each of them.

    Attributes:
        tokens: int64 [N], from START to END.
        places: int64 [N, 3], see `JointWriting.place`; positions: float32 [N, 3], see `JointWriting.position`.
        near: int64 [N, 2], the first and the one after the last of the tokens that a token is near to or far from: of
            its axis for a coordinate, itself alone for others.
    """

    tokens: NDArray[np.int64]
    places: NDArray[np.int64]
    positions: NDArray[np.float32]
    near: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)


class JointTokeniser:
    """Between trees and sequences. Joints of one place with their parent are moved a cell."""

    def __init__(self, grammar: JointGrammar) -> None:
        self.grammar, self.vocabulary = grammar, grammar.vocabulary

    def encode(self, tree: Tree, kind: int) -> JointSequence:
        """The sequence of a tree, depth first; of kind 0 that of no joint.

        Raises:
            MaquetteError: what the grammar does not have, such as too many joints.
        """
        writing, rows = self.grammar.start(), []
        for token in self._tokens(tree, kind):
            writing.accept(token)
            rows.append((token, writing.place or (self.vocabulary.levels,) * 3, writing.position, self._near(token)))
        tokens, places, positions, near = zip(*rows, strict=True)
        return JointSequence(
            np.array(tokens), np.array(places), np.array(positions, np.float32), np.array(near, np.int64)
        )

    def decode(self, tokens: Iterable[int]) -> tuple[Tree, int]:
        """The tree and the kind of a sequence.

        Raises:
            MaquetteError: a token that cannot stand where it does, or no END.
        """
        writing = self.grammar.start()
        for token in tokens:
            writing.accept(int(token))
        return writing.tree(), writing.kind

    def _tokens(self, tree: Tree, kind: int) -> list[int]:
        vocabulary = self.vocabulary
        found = [START, vocabulary.kind + kind]
        tree = tree.reordered(tree.depth_first())
        cells = vocabulary.cells(tree.positions)
        for joint, (role, parent) in enumerate(zip(tree.roles.tolist(), tree.parents.tolist(), strict=True)):
            if parent >= 0 and (cells[joint] == cells[parent]).all():
                cells[joint, 2] += 1 if cells[joint, 2] + 1 < vocabulary.levels else -1
            found += [vocabulary.role + role, vocabulary.parent + 1 + parent]
            found += [vocabulary.axis(axis) + int(cells[joint, axis]) for axis in range(3)]
        return [*found, END]

    def _near(self, token: int) -> tuple[int, int]:
        first = self.vocabulary.coordinate
        if token < first:
            return token, token + 1
        start = token - (token - first) % self.vocabulary.levels
        return start, start + self.vocabulary.levels
