"""Parts of one kind told apart: legs that do not touch are four legs."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from maquette.types import Mesh
from maquette_models.parts.face_labels import Adjacency

CRUMB = 0.02  # of a kind's area: a piece below it belongs to the nearest larger one
SIDES = ((0, "left", "right"), (2, "front", "back"), (1, "upper", "lower"))  # axis, name of its positive side, other
_APART = 0.02  # of the unit cube: how far pieces lie from the middle of their kind to be on one side


def instances(
    mesh: Mesh, labels: NDArray[np.int64], kinds: list[str], near: Adjacency
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Parts [F] and their names: connected pieces of each kind of `labels` [F], named by the side that they are on.

    A kind in one piece keeps its name. Sides are those of the thing itself: left is +x, the front +z. Where sides do
    not tell pieces apart, numbers do.
    """
    part = np.zeros(len(labels), np.int32)
    names: list[str] = []
    middles, areas = face_middles(mesh), face_areas(mesh)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        pieces = _pieces(own, labels, near)
        piece = _without_crumbs(pieces, middles[own], areas[own])
        centres = [
            np.average(middles[own][piece == p], axis=0, weights=areas[own][piece == p]) for p in range(piece.max() + 1)
        ]
        for number, name in enumerate(named(kinds[label], np.stack(centres))):
            part[own[piece == number]] = len(names)
            names.append(name)
    return part, tuple(names)


def _pieces(own: NDArray[np.int64], labels: NDArray[np.int64], near: Adjacency) -> NDArray[np.int64]:
    """The connected piece of each face in `own`."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    place = np.full(len(labels), -1)
    place[own] = np.arange(len(own))
    pairs = place[near.pairs]
    pairs = pairs[(pairs >= 0).all(axis=1)]
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(own), len(own)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _without_crumbs(
    pieces: NDArray[np.int64], middles: NDArray[np.float64], areas: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Pieces [n] numbered by area, those below `CRUMB` joined to the nearest other one."""
    sizes = np.bincount(pieces, weights=np.maximum(areas, 1e-12))
    order = np.argsort(-sizes, kind="stable")
    kept = order[sizes[order] >= CRUMB * sizes.sum()]
    centres = np.stack(
        [np.average(middles[pieces == p], axis=0, weights=np.maximum(areas[pieces == p], 1e-12)) for p in order]
    )
    target = np.zeros(len(sizes), np.int64)
    for rank, p in enumerate(order):
        distance = np.linalg.norm(centres[: len(kept)] - centres[rank], axis=1)
        target[p] = rank if rank < len(kept) else int(distance.argmin())
    return target[pieces]


def named(kind: str, centres: NDArray[np.float64]) -> list[str]:
    """A name for each piece of a kind, from where their middles [n, 3] lie."""
    if len(centres) == 1:
        return [kind]
    names = [kind] * len(centres)
    for axis, positive, negative in SIDES:
        if len(set(names)) == len(names):
            break
        off = centres[:, axis] - centres[:, axis].mean()
        if (np.abs(off) < _APART).all():
            continue
        words = [positive if x > _APART else negative if x < -_APART else "middle" for x in off]
        tried = [f"{word} {name}" for word, name in zip(words, names, strict=True)]
        if len(set(tried)) > len(set(names)):
            names = tried
    counts: defaultdict[str, int] = defaultdict(int)
    numbered = []
    for name in names:
        counts[name] += 1
        numbered.append(f"{name} {counts[name]}" if names.count(name) > 1 else name)
    return numbered


def face_middles(mesh: Mesh) -> NDArray[np.float64]:
    """Middles [F, 3] of faces."""
    return mesh.vertices.astype(np.float64)[mesh.faces].mean(axis=1)


def face_areas(mesh: Mesh) -> NDArray[np.float64]:
    """Areas [F] of faces."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
