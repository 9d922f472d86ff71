"""Skeletons of procedural creatures, and the smooth weights that bind a surface to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Vector = tuple[float, float, float]
INFLUENCES = 4
_SOFTNESS = 0.02  # a joint's pull falls by e over this distance, in the unit cube's units


class Skeleton(NamedTuple):
    """Joints of a shape; a joint comes after its parent.

    Attributes:
        names: of the joints, J of them.
        parents: int32 [J], -1 for the root.
        positions: float32 [J, 3] in the unit cube.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    positions: np.ndarray


@dataclass
class Rig:
    """Joints, each with one bone: a capsule from the joint to its tip, that moves with the joint."""

    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    heads: list[Vector] = field(default_factory=list)
    tips: list[Vector] = field(default_factory=list)
    radii: list[float] = field(default_factory=list)

    def joint(self, name: str, parent: str | None, at: Vector, tip: Vector, radius: float) -> None:
        """A joint and its bone. `radius` is the limb's; the parent must be there already."""
        self.names.append(name)
        self.parents.append(-1 if parent is None else self.names.index(parent))
        self.heads.append(at)
        self.tips.append(tip)
        self.radii.append(radius)

    def chain(self, names: tuple[str, ...], parent: str | None, points: tuple[Vector, ...], radius: float) -> None:
        """Joints one after the other along a line of points, one point more than joints."""
        for name, start, end in zip(names, points[:-1], points[1:], strict=True):
            self.joint(name, parent, start, end, radius)
            parent = name

    def moved(self, offset: np.ndarray, scale: float) -> Rig:
        """The rig at (point - offset) * scale."""
        heads, tips = ((np.asarray(points, float) - offset) * scale for points in (self.heads, self.tips))
        radii = [radius * scale for radius in self.radii]
        return Rig(self.names, self.parents, [(*p,) for p in heads.tolist()], [(*p,) for p in tips.tolist()], radii)

    def skeleton(self) -> Skeleton:
        """The joints as arrays."""
        positions = np.asarray(self.heads, np.float32)
        return Skeleton(tuple(self.names), np.asarray(self.parents, np.int32), positions)

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Distance float64 [P, J] from points [P, 3] to every joint's capsule, negative inside."""
        points, heads, tips = (np.asarray(a, float) for a in (points, self.heads, self.tips))
        along = tips - heads
        offset = points[:, None] - heads
        share = (offset * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-12)
        nearest = np.clip(share, 0.0, 1.0)[..., None] * along
        return np.linalg.norm(offset - nearest, axis=-1) - np.asarray(self.radii)

    def skin(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The joints that hold each point, the strongest first.

        Args:
            points: [P, 3] in the unit cube.

        Returns:
            Joints uint8 [P, 4] and weights float32 [P, 4] that sum to 1. Weights are continuous in the point:
            they are what each of the four exceeds the fifth by, so that none jumps when joints change places.
        """
        distances = self.distances(points)
        pull = np.exp(-(distances - distances.min(1, keepdims=True)) / _SOFTNESS)
        missing = INFLUENCES + 1 - pull.shape[1]
        if missing > 0:
            pull = np.pad(pull, ((0, 0), (0, missing)))
        order = np.argsort(-pull, axis=1, kind="stable")[:, : INFLUENCES + 1]
        sorted_pull = np.take_along_axis(pull, order, 1)
        weights = sorted_pull[:, :INFLUENCES] - sorted_pull[:, INFLUENCES:]
        joints = np.where(weights > 0, order[:, :INFLUENCES], 0)
        return joints.astype(np.uint8), (weights / weights.sum(1, keepdims=True)).astype(np.float32)
