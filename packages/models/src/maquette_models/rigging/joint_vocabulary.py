"""The tokens of skeletons: kinds of bodies, roles of joints, parents by their number, and coordinates by axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

END, START = 0, 1
SPECIAL = 2
OF_A_JOINT = 5  # tokens: role, parent, x, y, z


@dataclass(frozen=True)
class JointVocabulary:
    """`levels` cells a side of the unit cube; `kinds`, `roles` and the most `joints` that a skeleton has, by number.

    A skeleton is START KIND (ROLE PARENT X Y Z)* END. Parent token 0 is that of the root, parent token n the joint
    number n - 1.
    """

    levels: int
    kinds: int
    roles: int
    joints: int

    @property
    def kind(self) -> int:
        """The first kind's token."""
        return SPECIAL

    @property
    def role(self) -> int:
        """The first role's token."""
        return self.kind + self.kinds

    @property
    def parent(self) -> int:
        """The root's parent token."""
        return self.role + self.roles

    @property
    def coordinate(self) -> int:
        """The first token of x; those of y and z follow."""
        return self.parent + 1 + self.joints

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.coordinate + 3 * self.levels

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return len((START, "kind", END)) + OF_A_JOINT * self.joints

    def axis(self, number: int) -> int:
        """The first token of an axis: 0, 1, 2 for x, y, z."""
        return self.coordinate + number * self.levels

    def cells(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """The cells [..., 3] of positions in the unit cube; of those outside the nearest."""
        return np.floor((positions + 0.5) * self.levels).astype(np.int64).clip(0, self.levels - 1)

    def centres(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """The middle of cells [..., 3]."""
        return (cells + 0.5) / self.levels - 0.5
