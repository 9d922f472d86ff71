"""Edges of buckets from the sizes that the samples have: as few buckets as keep the padding small."""

from __future__ import annotations

import numpy as np

from maquette.errors import MaquetteError

_CANDIDATES = 400
_MOST = 128


def fitted_edges(tokens: np.ndarray, waste: float) -> list[int]:
    """The fewest edges with which at most `waste` of all tokens would be padding, if batches were padded to the edge.

    Batches are padded to their own longest sample, which is at most the edge: what is wasted is less. For a given
    number of buckets the edges are the best ones, by dynamic programming over the sizes that occur (over 400 of them,
    evenly spaced in the logarithm, where more occur).

    Args:
        tokens: int [n], of all samples.
        waste: share of padding, 0 to 1.

    Returns:
        Rising sizes; the last one is the largest of the samples.

    Raises:
        MaquetteError: more than 128 buckets would be needed.
    """
    sizes = _candidates(np.maximum(np.asarray(tokens, np.int64), 1))
    ends = np.searchsorted(np.sort(np.maximum(tokens, 1)), sizes, side="right")
    counts = np.concatenate([[0], ends])  # samples of at most the size before
    allowed = float(np.maximum(tokens, 1).sum()) / (1 - waste)
    # padded[i, j]: tokens of the samples after candidate i up to j, all padded to j.
    padded = np.where(
        np.arange(len(counts))[:, None] <= np.arange(len(sizes)),
        (counts[None, 1:] - counts[:, None]) * sizes.astype(float),
        np.inf,
    )
    least, choices = padded[0], []
    for _ in range(_MOST):
        if least[-1] <= allowed:
            return _walked_back(sizes, choices)
        total = np.concatenate([[np.inf], least])[:, None] + padded
        choices.append(total.argmin(0))
        least = total.min(0)
    raise MaquetteError(
        f"dataset 'shards': bucket_waste {waste:g} would take more than {_MOST} buckets; allow more padding"
    )


def _candidates(tokens: np.ndarray) -> np.ndarray:
    found = np.unique(tokens)
    if len(found) <= _CANDIDATES:
        return found
    wanted = np.geomspace(found[0], found[-1], _CANDIDATES)
    # The largest size below each wanted one: an edge that no sample has would only add padding.
    return np.unique(found[np.searchsorted(found, np.ceil(wanted), side="right").clip(1) - 1])


def _walked_back(sizes: np.ndarray, choices: list[np.ndarray]) -> list[int]:
    """Edges from the last one down; a choice of 0 or i means that the bucket before ends at candidate i - 1."""
    place, edges = len(sizes) - 1, [int(sizes[-1])]
    for chosen in reversed(choices):
        place = int(chosen[place]) - 1
        if place < 0:
            break
        edges.append(int(sizes[place]))
    return edges[::-1]
