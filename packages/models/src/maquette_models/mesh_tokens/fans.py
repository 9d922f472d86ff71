"""Faces as fans around shared corners, in one canonical order.

The patches of Weng et al., "Scaling Mesh Generation via Compressive Tokenization" (BPT), 2024, made exact for open and
non-manifold meshes: a fan never takes a face against its orientation, nor one twice.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from dataclasses import dataclass

from maquette_models.mesh_tokens.quantise import Codes


@dataclass(frozen=True)
class Fan:
    """Faces (centre, rim[i], rim[i+1]); with `closed` also (centre, rim[-1], rim[0])."""

    centre: int
    rim: tuple[int, ...]
    closed: bool

    def faces(self) -> list[tuple[int, int, int]]:
        """The faces in the order of the rim."""
        ends = (*self.rim[1:], self.rim[0]) if self.closed else self.rim[1:]
        return [(self.centre, a, b) for a, b in zip(self.rim, ends, strict=False)]


class Corners:
    """The faces that are left, seen from each corner: after[c][p] are the n, and before[c][n] the p, of all faces
    (c, p, n), in rising order."""

    def __init__(self, faces: Codes) -> None:
        self.after: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.before: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.left: dict[int, int] = defaultdict(int)
        for a, b, c in faces.tolist():
            for centre, previous, following in ((a, b, c), (b, c, a), (c, a, b)):
                insort(self.after[centre][previous], following)
                insort(self.before[centre][following], previous)
                self.left[centre] += 1

    def has(self, a: int, b: int, c: int) -> bool:
        """Whether the face is left."""
        return c in self.after[a][b]

    def take(self, a: int, b: int, c: int) -> None:
        """Remove a face."""
        for centre, previous, following in ((a, b, c), (b, c, a), (c, a, b)):
            self.after[centre][previous].remove(following)
            self.before[centre][following].remove(previous)
            self.left[centre] -= 1

    def start(self, centre: int, corner: int) -> int:
        """Where the fan through `corner` begins: at its open end, or at its smallest corner where it goes round."""
        passed = [corner]
        while found := self.before[centre][passed[-1]]:
            if found[0] in passed:
                return min(passed[passed.index(found[0]) :])
            passed.append(found[0])
        return passed[-1]

    def walk(self, centre: int, corner: int) -> Fan:
        """Take the faces around a centre from a corner on, until they end or come round."""
        rim = [corner]
        while found := self.after[centre][rim[-1]]:
            following = found[0]
            self.take(centre, rim[-1], following)
            if following == corner:
                return Fan(centre, tuple(rim), closed=True)
            rim.append(following)
        return Fan(centre, tuple(rim), closed=False)


def fans(faces: Codes) -> list[Fan]:
    """Fans that hold each face once, from canonical faces [F, 3] of codes.

    The next fan is around that corner of the first face left which most faces are left around.
    """
    corners, found = Corners(faces), []
    for a, b, c in faces.tolist():
        while corners.has(a, b, c):
            centre, corner = max(((a, b), (b, c), (c, a)), key=lambda pair: (corners.left[pair[0]], -pair[0]))
            found.append(corners.walk(centre, corners.start(centre, corner)))
    return found
