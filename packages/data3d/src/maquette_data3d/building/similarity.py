"""Copies and near copies of a shape: found by voxels, whatever the triangles, turned or mirrored about the axes.

Two meshes are near duplicates when the voxels of their surfaces at `CELLS` cells overlap by a threshold in one of
the eight positions that turns by a quarter about the up axis and a mirror give. Comparing all pairs would be
quadratic: candidates are those whose counts of voxels by height and by distance from the axis, which no such
turn changes, are close. An overlap of s bounds how far the counts may differ, so no pair is missed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from maquette_data3d.geometry.voxels import sparse_voxels

CELLS = 16
_BYTES = CELLS**3 // 8


def signature(vertices: np.ndarray, faces: np.ndarray) -> str:
    """The voxels that a surface in the unit cube passes, as hexadecimal bits."""
    occupied = np.zeros((CELLS,) * 3, bool)
    occupied[tuple(sparse_voxels(vertices, faces, CELLS).T)] = True
    return np.packbits(occupied).tobytes().hex()


def groups(signatures: Sequence[str], contents: Sequence[str], overlap: float) -> list[int]:
    """For each sample the first one of its group.

    Args:
        signatures: see `signature`; empty ones are alike to nothing.
        contents: equal for exact copies.
        overlap: intersection over union from which two are one group; 1 joins exact copies only.
    """
    count = len(contents)
    _, first, inverse = np.unique(np.asarray(contents), return_index=True, return_inverse=True)
    copies = np.stack([first[inverse.reshape(-1)], np.arange(count)], 1)
    pairs = np.concatenate([copies, _alike(signatures, first, overlap)]) if overlap < 1 else copies
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, leader, member = np.unique(labels, return_index=True, return_inverse=True)
    return [int(number) for number in leader[member.reshape(-1)]]


def _alike(signatures: Sequence[str], candidates: np.ndarray, overlap: float) -> np.ndarray:
    """Pairs int64 [N, 2] of candidates whose voxels overlap enough."""
    chosen = np.array([number for number in np.sort(candidates) if signatures[number]], np.int64)
    if len(chosen) < 2:
        return np.zeros((0, 2), np.int64)
    bits = np.frombuffer(bytes.fromhex("".join(signatures[number] for number in chosen)), np.uint8)
    grids = np.unpackbits(bits.reshape(-1, _BYTES), axis=1).reshape(-1, CELLS, CELLS, CELLS).astype(bool)
    counts = _counts(grids)
    size = grids.sum((1, 2, 3))
    # With an overlap of s the voxels that differ are (1 - s) / (1 + s) of both sizes together, the larger at most
    # 1 / s of the smaller. Counts by height differ by no more than that in all, and so do those by distance.
    reach = 2 * (1 - overlap) / (1 + overlap) * (1 + 1 / overlap) * size
    tree = cKDTree(counts)
    found = []
    for one, neighbours in enumerate(tree.query_ball_point(counts, reach, p=1)):
        near = np.array([n for n in neighbours if n > one], np.int64)
        if len(near):
            near = near[_best_overlap(grids[one], grids[near]) >= overlap]
            found.append(np.stack([np.full(len(near), one), near], 1))
    pairs = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
    return chosen[pairs]


def _counts(grids: np.ndarray) -> np.ndarray:
    """Voxels by height and by distance from the up axis, float64 [N, CELLS + rings]."""
    axis = np.arange(CELLS) - (CELLS - 1) / 2
    ring = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2).astype(np.int64)
    rings = np.stack([grids[:, ring_of[0], :, ring_of[1]].sum((0, 2)) for ring_of in _places(ring)], 1)
    return np.concatenate([grids.sum((1, 3)), rings], 1).astype(np.float64)


def _places(ring: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [np.nonzero(ring == number) for number in range(int(ring.max()) + 1)]


def _best_overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Largest intersection over union float64 [N] of a grid with others, over quarter turns and a mirror."""
    best = np.zeros(len(others))
    for mirrored in (one, one[::-1]):
        for quarter in range(4):
            turned = np.rot90(mirrored, quarter, axes=(0, 2))
            best = np.maximum(best, (turned & others).sum((1, 2, 3)) / (turned | others).sum((1, 2, 3)))
    return best
