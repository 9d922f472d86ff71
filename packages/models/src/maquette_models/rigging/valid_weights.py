"""Weights as engines take them: few joints a vertex, smooth over the surface, no lost islands, sums of 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from maquette.errors import MaquetteError

LEAST = 1e-3  # weights below count for nothing


@dataclass
class ValidWeightsConfig:
    """A vertex is held by `influences` joints at most. `smoothing` rounds each go half of the way to the mean of the
    neighbours."""

    influences: int = 4
    smoothing: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.influences <= 8 or self.smoothing < 0:
            raise MaquetteError(
                f"weights: influences {self.influences} must be 1 to 8, smoothing {self.smoothing} not negative"
            )


def neighbours(faces: NDArray[np.integer], count: int) -> sparse.csr_matrix:
    """Which of `count` vertices share an edge of a face, a symmetric matrix of ones."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = ends[ends[:, 0] != ends[:, 1]]
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    edges = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(count, count))
    edges.data[:] = 1
    return edges


def valid_weights(
    weights: NDArray[np.floating], edges: sparse.csr_matrix, config: ValidWeightsConfig | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Joints int32 [V, K] and weights float32 [V, K], strongest first, of weights [V, J] that need not be valid.

    In each connected piece of the surface a joint holds one region. Rows sum to 1, none is negative.

    Args:
        weights: not negative where they mean anything; NaN counts as 0. J is at least 1.
        edges: see `neighbours`.
        config: what to make of them.
    """
    config = config or ValidWeightsConfig()
    dense = np.nan_to_num(weights.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)
    dense = _filled(_without_islands(_filled(_normalised(dense), edges), edges), edges)
    degree = np.asarray(edges.sum(axis=1))
    for _ in range(config.smoothing):
        dense = np.where(degree > 0, 0.5 * dense + 0.5 * (edges @ dense) / np.maximum(degree, 1), dense)
    dense = _strongest(dense, config.influences)
    dense = _strongest(_filled(_without_islands(dense, edges), edges), config.influences)
    order = np.argsort(-dense, axis=1, kind="stable")[:, : min(config.influences, dense.shape[1])]
    found = np.take_along_axis(dense, order, axis=1)
    return np.where(found > 0, order, 0).astype(np.int32), found / found.sum(axis=1, keepdims=True)


def _normalised(dense: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows that sum to 1, or are 0 where they were next to nothing."""
    total = dense.sum(axis=1, keepdims=True)
    return np.where(total > LEAST, dense / np.maximum(total, LEAST), 0)


def _strongest(dense: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The `count` largest weights of each row, if they are not next to nothing."""
    kept = np.zeros(dense.shape, bool)
    np.put_along_axis(kept, np.argsort(-dense, axis=1, kind="stable")[:, :count], True, axis=1)
    kept &= dense >= np.minimum(LEAST, dense.max(axis=1, keepdims=True))
    return _normalised(np.where(kept, dense, 0))


def _without_islands(dense: NDArray[np.float32], edges: sparse.csr_matrix) -> NDArray[np.float32]:
    """Of each joint in each connected piece of the surface only the region with the most weight."""
    _, piece = csgraph.connected_components(edges, directed=False)
    dense = dense.copy()
    for joint in range(dense.shape[1]):
        held = np.flatnonzero(dense[:, joint])
        if not len(held):
            continue
        count, region = csgraph.connected_components(edges[held][:, held], directed=False)
        total = np.bincount(region, dense[held, joint], minlength=count)
        first = np.unique(region, return_index=True)[1]
        of_piece = piece[held[first]]
        order = np.lexsort((-total, of_piece))
        best = order[np.unique(of_piece[order], return_index=True)[1]]
        dense[held[~np.isin(region, best)], joint] = 0
    return _normalised(dense)


def _filled(dense: NDArray[np.float32], edges: sparse.csr_matrix) -> NDArray[np.float32]:
    """Rows of nothing are given those of the nearest vertex along the surface, by edges; where a whole piece of it has
    nothing, all weight goes to the joint that holds most elsewhere."""
    known = dense.sum(axis=1) > LEAST
    dense = dense.copy()
    while not known.all():
        missing = np.flatnonzero(~known)
        near = edges[missing].multiply(known).tocsr()
        near.eliminate_zeros()
        has = np.diff(near.indptr) > 0
        if not has.any():
            break
        source = near.indices[near.indptr[:-1][has]]
        dense[missing[has]] = dense[source]
        known[missing[has]] = True
    if not known.all():
        dense[~known, int(dense.sum(axis=0).argmax())] = 1
    return dense
