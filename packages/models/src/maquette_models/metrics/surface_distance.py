"""Metrics between point sets sampled on surfaces: chamfer distance, F-score, normal consistency.

Definitions after Tatarchenko et al., "What do single-view 3D reconstruction networks learn?", 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from torchmetrics import Metric

from maquette.errors import MaquetteError


@dataclass
class ChamferConfig:
    """Nothing to set: the mean of the two mean distances, not squared, in units of the unit cube."""


@dataclass
class FScoreConfig:
    """`tau` is the distance within which a point counts as found."""

    tau: float = 0.02


@dataclass
class NormalConsistencyConfig:
    """`signed` tells a flipped normal from a right one."""

    signed: bool = False


@dataclass(frozen=True)
class Nearest:
    """For each point of one set the nearest of the other."""

    distance: NDArray[np.float64]
    index: NDArray[np.int64]


def nearest_both_ways(predicted: Tensor, target: Tensor) -> Iterator[tuple[Nearest, Nearest]]:
    """Nearest neighbours of point sets [B,N,3] and [B,M,3]: predicted to target and back, a sample at a
    time."""
    for a, b in zip(predicted.double().cpu().numpy(), target.double().cpu().numpy(), strict=True):
        yield Nearest(*cKDTree(b).query(a)), Nearest(*cKDTree(a).query(b))


def chamfer(there: Nearest, back: Nearest) -> float:
    """Mean distance to the other set, averaged over both directions."""
    return float(there.distance.mean() + back.distance.mean()) / 2


def f_score(there: Nearest, back: Nearest, tau: float) -> float:
    """Harmonic mean of the shares of points, of either set, within `tau` of the other."""
    precision, recall = (float((side.distance <= tau).mean()) for side in (there, back))
    return 2 * precision * recall / max(precision + recall, 1e-12)


def normal_consistency(
    nearest: tuple[Nearest, Nearest], a: NDArray[np.float64], b: NDArray[np.float64], *, signed: bool = False
) -> float:
    """Mean cosine between unit normals [N,3] and [M,3] of nearest points, averaged over both directions."""
    there, back = nearest
    cosines = (np.sum(a * b[there.index], axis=1), np.sum(b * a[back.index], axis=1))
    return float(np.mean([side.mean() if signed else np.abs(side).mean() for side in cosines]))


class SurfaceMetric(Metric):
    """The mean over shapes of a value that subclasses define for one shape."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def add(self, value: float) -> None:
        """Count one shape."""
        self.total += value
        self.count += 1

    def compute(self) -> Tensor:
        """The mean over shapes; NaN before any update."""
        return (self.total / self.count).float()


class Chamfer(SurfaceMetric):
    """Mean distance to the other surface, averaged over both directions."""

    higher_is_better = False

    def __init__(self, config: ChamferConfig) -> None:
        super().__init__()

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count point sets [B,N,3] and [B,M,3]."""
        for there, back in nearest_both_ways(predicted, target):
            self.add(chamfer(there, back))


class FScore(SurfaceMetric):
    """Harmonic mean of precision and recall at a distance, in [0,1]."""

    higher_is_better = True

    def __init__(self, config: FScoreConfig) -> None:
        super().__init__()
        if config.tau <= 0:
            raise MaquetteError(f"metric 'f_score': tau {config.tau} must be positive")
        self.tau = config.tau

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count point sets [B,N,3] and [B,M,3]."""
        for there, back in nearest_both_ways(predicted, target):
            self.add(f_score(there, back, self.tau))


class NormalConsistency(SurfaceMetric):
    """Mean cosine between the normals of nearest points, averaged over both directions; 1 is perfect."""

    higher_is_better = True

    def __init__(self, config: NormalConsistencyConfig) -> None:
        super().__init__()
        self.signed = config.signed

    def update(self, predicted: Tensor, predicted_normals: Tensor, target: Tensor, target_normals: Tensor) -> None:
        """Count point sets [B,N,3] and [B,M,3] with unit normals of the same shapes."""
        pairs = zip(predicted_normals.double().cpu().numpy(), target_normals.double().cpu().numpy(), strict=True)
        for nearest, (a, b) in zip(nearest_both_ways(predicted, target), pairs, strict=True):
            self.add(normal_consistency(nearest, a, b, signed=self.signed))
