"""Which tokens may come next, so that what is written is a mesh: whole fans, no face twice, none without an area."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError
from maquette_models.mesh_tokens.quantise import Codes, canonical, decode_places, encode_places
from maquette_models.mesh_tokens.vocabulary import CLOSE, END, SPECIAL, START, Vocabulary

UNBOUNDED = 1 << 60


@dataclass(frozen=True)
class Grammar:
    """`max_tokens` counts START and END. Whatever is chosen of what is allowed, END comes within the bounds.

    Raises:
        MaquetteError: bounds that contradict each other or the grid.
    """

    vocabulary: Vocabulary
    min_faces: int = 1
    max_faces: int = 0
    max_tokens: int = UNBOUNDED

    def __post_init__(self) -> None:
        # An edge has room for one more face while fewer faces than cells off its line are there.
        room = self.vocabulary.levels**3 - self.vocabulary.levels - 2
        most = self.max_faces or room
        if not 1 <= self.min_faces <= most <= room:
            raise MaquetteError(
                f"mesh grammar: min_faces {self.min_faces} and max_faces {most} must rise and lie in 1..{room}"
            )
        least = len((START, END)) + 2 + 2 * (self.min_faces + 1)
        if self.max_tokens < least:
            raise MaquetteError(f"mesh grammar: {self.min_faces} faces need max_tokens {least}, not {self.max_tokens}")
        object.__setattr__(self, "max_faces", most)

    def start(self) -> Writing:
        """A sequence of which nothing is written yet."""
        return Writing(self)


class Writing:
    """A sequence under way: what may come next, and the faces so far.

    Attributes:
        faces: (centre, previous, next) of codes, in the order of writing.
        finished: END is written.
        place: [x, y, z] of the corner that the last token completed, or None.
        position: place in the sequence, number of the fan and place in it of the last token.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar, self.vocabulary = grammar, grammar.vocabulary
        self.faces: list[tuple[int, int, int]] = []
        self.thirds: dict[tuple[int, int], set[int]] = defaultdict(set)
        self.fan: list[int] | None = None  # the corners of the fan under way, its centre first
        self.block = -1  # of the last corner, or of the one that is begun
        self.begun = False  # a block is written and its offset not
        self.finished = False
        self.written = 0
        self.fans = 0
        self.place: tuple[int, int, int] | None = None
        self.position = (0, 0, 0)
        self._allowed: NDArray[np.bool_] | None = None

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token may come next, bool [size]; none after END. Not to be changed."""
        if self._allowed is None:
            self._allowed = self._find_allowed()
        return self._allowed

    def _find_allowed(self) -> NDArray[np.bool_]:
        keep = np.zeros(self.vocabulary.size, bool)
        if self.finished:
            return keep
        if not self.written:
            keep[START] = True
            return keep
        left = self.grammar.max_tokens - self.written - 1
        keep[END] = self._may_end()
        keep[CLOSE] = self._may_close() and self._cost(corners=0, closing=True) <= left
        if self._may_open() and self._cost(corners=0, opening=True) <= left:
            keep[self.vocabulary.centre : self.vocabulary.offset] = True
        if self.fan is not None:
            self._allow_corner(keep, left)
        return keep

    def accept(self, token: int) -> None:
        """Write a token.

        Raises:
            MaquetteError: it may not stand here.
        """
        if not 0 <= token < self.vocabulary.size or not self.allowed()[token]:
            raise MaquetteError(f"token {token} cannot be number {self.written} of this mesh sequence")
        self.place, self._allowed = None, None
        if token == END:
            self.finished, self.fan, self.fans = True, None, self.fans + 1
        elif token == CLOSE:
            self._close()
        elif token >= self.vocabulary.offset:
            self._corner(token - self.vocabulary.offset)
        elif token != START:
            self._block(token)
        corner = len(self.fan) - (not self.begun) if self.fan is not None else 0
        self.position = (self.written, self.fans, corner if token != CLOSE else self.position[2] + 1)
        self.written += 1

    def mesh_faces(self) -> Codes:
        """The canonical faces [F, 3].

        Raises:
            MaquetteError: END is not written.
        """
        if not self.finished:
            raise MaquetteError(f"this mesh sequence breaks off after {self.written} tokens, before its end")
        return canonical(np.array(self.faces, np.int64).reshape(-1, 3), self.vocabulary.levels)

    def _block(self, token: int) -> None:
        if token >= self.vocabulary.centre:
            self.fan, self.fans = [], self.fans + 1
        self.block = (token - SPECIAL) % self.vocabulary.blocks**3
        self.begun = True

    def _corner(self, offset: int) -> None:
        code = self.vocabulary.join(self.block, offset)
        assert self.fan is not None
        if len(self.fan) > 1:
            self._face(self.fan[0], self.fan[-1], code)
        self.fan.append(code)
        self.begun = False
        x, y, z = decode_places(np.int64(code), self.vocabulary.levels).tolist()
        self.place = (x, y, z)

    def _close(self) -> None:
        assert self.fan is not None
        self._face(self.fan[0], self.fan[-1], self.fan[1])
        self.fan = None

    def _face(self, a: int, b: int, c: int) -> None:
        self.faces.append((a, b, c))
        for p, q, third in ((a, b, c), (b, c, a), (c, a, b)):
            self.thirds[p, q].add(third)

    def _may_stop(self) -> bool:
        """Whether no fan is under way that has no face yet."""
        return self.fan is None or (not self.begun and len(self.fan) > 2)

    def _may_end(self) -> bool:
        return self._may_stop() and len(self.faces) >= self.grammar.min_faces

    def _may_open(self) -> bool:
        return self._may_stop() and len(self.faces) < self.grammar.max_faces

    def _may_close(self) -> bool:
        if self.fan is None or not self._may_open():
            return False
        return self.fan[1] not in self._forbidden(closing=True)

    def _allow_corner(self, keep: NDArray[np.bool_], left: int) -> None:
        """Allow the blocks and offsets with which the fan under way may go on."""
        assert self.fan is not None
        if len(self.fan) > 1 and len(self.faces) >= self.grammar.max_faces:
            return
        vocabulary = self.vocabulary
        forbidden = np.fromiter(self._forbidden(closing=False), np.int64)
        blocks, offsets = vocabulary.split(forbidden)
        if self._cost(corners=1) <= left:
            keep[vocabulary.offset :] = True
            keep[vocabulary.offset + offsets[blocks == self.block]] = False
        if not self.begun and self._cost(corners=1) + 1 <= left:
            full = np.bincount(blocks, minlength=vocabulary.blocks**3) >= vocabulary.offsets**3
            full[self.block] = True  # it is the block anyway
            keep[vocabulary.block : vocabulary.centre] = ~full

    def _forbidden(self, *, closing: bool) -> set[int]:
        """Codes that cannot be the next corner: on the line of the last edge, or making a face again."""
        assert self.fan is not None
        if len(self.fan) < 2:
            return set(self.fan)
        centre, last = self.fan[0], self.fan[-1]
        found = self.thirds.get((centre, last), set()) | line(centre, last, self.vocabulary.levels)
        return found if closing else found | {self.fan[1]}

    def _cost(self, *, corners: int, closing: bool = False, opening: bool = False) -> int:
        """How many tokens it takes at most to reach END in order, after the given has been written.

        Args:
            corners: the fan under way gets so many more.
            closing: the fan is closed.
            opening: a new fan's centre block is written.
        """
        rim = -1 if opening or self.fan is None else len(self.fan) - 1 + corners
        faces = len(self.faces) + closing + (corners if self.fan is not None and len(self.fan) > 1 else 0)
        if closing and faces >= self.grammar.min_faces:
            return 1
        missing = self.grammar.min_faces - faces
        if opening:
            return 1 + 2 * max(2, missing + 1) + 1
        if closing:
            return 2 + 2 * max(2, missing + 1) + 1
        return 2 * max(2 - rim, missing + (rim < 1), 0) + 1


def line(a: int, b: int, levels: int) -> set[int]:
    """The codes of the grid on the line through two different codes."""
    start, end = decode_places(np.array([a, b]), levels)
    step = (end - start) // gcd(*(end - start).tolist())
    reach = np.arange(-levels, levels + 1)[:, None] * step + start
    inside = ((reach >= 0) & (reach < levels)).all(axis=1)
    return set(encode_places(reach[inside], levels).tolist())
