"""A skeleton as a model sees it: one root, each joint after its parent and with the role that it has in the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROOT = -1


@dataclass(frozen=True)
class Tree:
    """`roles` int64 [J], places among the names of roles; `parents` int64 [J], -1 at the root alone, which comes first;
    `positions` float64 [J, 3] in the unit cube."""

    roles: NDArray[np.int64]
    parents: NDArray[np.int64]
    positions: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.roles)

    def reordered(self, order: NDArray[np.int64]) -> Tree:
        """The same tree with joint `order[i]` in place i; each must come after its parent in the new order too."""
        parents = self.parents[order]
        return Tree(
            self.roles[order], np.where(parents == ROOT, ROOT, places_of(order)[parents]), self.positions[order]
        )

    def depth_first(self) -> NDArray[np.int64]:
        """The one order [J] in which sequences tell of joints: each child with all below it, by role, then place."""
        children: list[list[int]] = [[] for _ in range(len(self))]
        for joint in np.lexsort((*self.positions.T, self.roles)).tolist():
            if self.parents[joint] != ROOT:
                children[self.parents[joint]].append(joint)
        order, left = [], np.flatnonzero(self.parents == ROOT).tolist()
        while left:
            order.append(left.pop())
            left.extend(reversed(children[order[-1]]))
        return np.array(order, np.int64)


NO_TREE = Tree(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)))


def places_of(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each thing in an order of all of them."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def mirrored_roles(names: list[str] | tuple[str, ...]) -> NDArray[np.int64]:
    """The role [R] that each becomes in a mirror: left for right."""
    swap = {"left": "right", "right": "left"}
    words = [name.split(" ", 1) for name in names]
    turned = [" ".join((swap.get(word[0], word[0]), *word[1:])) for word in words]
    return np.array([names.index(name) for name in turned], np.int64)


KINDS = ("nothing", "biped", "quadruped", "bird", "fish", "other")
"""What has a skeleton; "nothing" has none."""


def kind_of(roles: set[str]) -> str:
    """The kind of a body by the roles of its joints."""
    bones = {role.removeprefix("left ").removeprefix("right ") for role in roles}
    for kind, sign in (("bird", "wing"), ("fish", "fin"), ("quadruped", "front thigh"), ("biped", "upper arm")):
        if sign in bones:
            return kind
    return "other" if roles else "nothing"
