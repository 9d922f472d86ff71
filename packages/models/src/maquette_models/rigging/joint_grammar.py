"""Which tokens may come next, so that what is written is a skeleton: one tree, each joint after its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError
from maquette_models.rigging.joint_vocabulary import END, OF_A_JOINT, START, JointVocabulary
from maquette_models.rigging.skeleton_tree import ROOT, Tree


@dataclass(frozen=True)
class JointGrammar:
    """Whatever is chosen of what is allowed, END comes after 2 to `vocabulary.joints` joints, or none of kind 0.

    No joint lies in its parent's cell, and only the roles in `repeated` come more than once.

    Args:
        vocabulary: of the tokens.
        repeated: roles that several joints may have; at least one.
        kinds: those that may be chosen; empty is all.

    Raises:
        MaquetteError: no repeated role, or fewer than two joints.
    """

    vocabulary: JointVocabulary
    repeated: frozenset[int]
    kinds: Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        if not self.repeated or self.vocabulary.joints < 2 or self.vocabulary.levels < 2:
            raise MaquetteError("skeleton grammar: needs a role that may repeat, two joints and two levels at least")

    def start(self) -> JointWriting:
        """A sequence of which nothing is written yet."""
        return JointWriting(self)


class JointWriting:
    """A sequence under way: what may come next, and the joints so far.

    Attributes:
        finished: END is written.
        place: cells of the coordinates that the last token tells of, `levels` for others: the parent's of a parent
            token, those known so far of a coordinate.
        position: place in the sequence, number of the joint from 1, and place in it of the last token.
        kind: place in the kinds, or -1.
    """

    def __init__(self, grammar: JointGrammar) -> None:
        self.grammar, self.vocabulary = grammar, grammar.vocabulary
        self.roles: list[int] = []
        self.parents: list[int] = []
        self.cells: list[tuple[int, ...]] = []
        self.partial: list[int] = []  # of the joint under way, the coordinates written
        self.kind = -1
        self.step = 0  # of the joint under way, the tokens written
        self.finished = False
        self.written = 0
        self.place: tuple[int, int, int] | None = None
        self.position = (0, 0, 0)

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token may come next, bool [size]; none after END."""
        keep, vocabulary = np.zeros(self.vocabulary.size, bool), self.vocabulary
        if self.finished:
            return keep
        if not self.written:
            keep[START] = True
        elif self.kind < 0:
            wanted = self.grammar.kinds or range(vocabulary.kinds)
            keep[[vocabulary.kind + kind for kind in wanted]] = True
        elif self.step == 0:
            self._allow_next_joint(keep)
        elif self.step == 1:
            keep[vocabulary.parent + (1 if self.cells else 0) : vocabulary.parent + 1 + len(self.cells)] = True
        else:
            self._allow_coordinate(keep)
        return keep

    def accept(self, token: int) -> None:
        """Write a token.

        Raises:
            MaquetteError: it may not stand here.
        """
        if not 0 <= token < self.vocabulary.size or not self.allowed()[token]:
            raise MaquetteError(f"token {token} cannot be number {self.written} of this skeleton's sequence")
        self.place = None
        joint, step = len(self.cells) + 1, self.step
        if token == END:
            self.finished = True
        elif token != START and self.kind < 0:
            self.kind, joint = token - self.vocabulary.kind, 0
        elif token != START:
            self._accept_of_joint(token)
        else:
            joint = 0
        self.position = (self.written, joint, step)
        self.written += 1

    def tree(self) -> Tree:
        """The joints, each in the middle of its cell.

        Raises:
            MaquetteError: END is not written.
        """
        if not self.finished:
            raise MaquetteError(f"this skeleton's sequence breaks off after {self.written} tokens, before its end")
        cells = np.array(self.cells, np.int64).reshape(-1, 3)
        return Tree(np.array(self.roles, np.int64), np.array(self.parents, np.int64), self.vocabulary.centres(cells))

    def _accept_of_joint(self, token: int) -> None:
        vocabulary, nowhere = self.vocabulary, self.vocabulary.levels
        if self.step == 0:
            self.roles.append(token - vocabulary.role)
        elif self.step == 1:
            self.parents.append(token - vocabulary.parent - 1)
            if self.parents[-1] != ROOT:
                self.place = _three(self.cells[self.parents[-1]], nowhere)
        else:
            self.partial.append(token - vocabulary.axis(self.step - 2))
            self.place = _three(self.partial, nowhere)
        self.step += 1
        if self.step == OF_A_JOINT:
            self.cells.append(tuple(self.partial))
            self.partial, self.step = [], 0

    def _allow_next_joint(self, keep: NDArray[np.bool_]) -> None:
        vocabulary, count = self.vocabulary, len(self.cells)
        if self.kind == 0:
            keep[END] = True
            return
        keep[END] = count >= 2
        if count < vocabulary.joints:
            keep[vocabulary.role : vocabulary.parent] = True
            taken = [vocabulary.role + role for role in self.roles if role not in self.grammar.repeated]
            keep[taken] = False

    def _allow_coordinate(self, keep: NDArray[np.bool_]) -> None:
        first = self.vocabulary.axis(self.step - 2)
        keep[first : first + self.vocabulary.levels] = True
        above = self.parents[-1]
        if len(self.partial) == 2 and above != ROOT and self.cells[above][:2] == tuple(self.partial):
            keep[first + self.cells[above][2]] = False


def _three(known: Sequence[int], nowhere: int) -> tuple[int, int, int]:
    x, y, z = (*known, *(nowhere,) * (3 - len(known)))
    return x, y, z
