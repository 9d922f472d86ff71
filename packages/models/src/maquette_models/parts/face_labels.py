"""From likelihoods of labels at points to a label a face: votes, then smoothing over neighbouring faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette.types import Mesh

FLOOR = 1e-4  # the least likelihood: no single vote forbids a label


@dataclass(frozen=True)
class Adjacency:
    """Pairs of faces that share an edge.

    Attributes:
        pairs: int64 [E, 2]; weights: float64 [E], lengths of the shared edges against the mean one, lighter where the
            surface bends inwards: parts meet in creases (the minima rule, Hoffman & Richards, 1984).
    """

    pairs: NDArray[np.int64]
    weights: NDArray[np.float64]


def adjacency(mesh: Mesh) -> Adjacency:
    """Faces of a mesh that touch; vertices in one place count as one, so that seams of colours do not part faces."""
    _, welded = np.unique(mesh.vertices, axis=0, return_inverse=True)
    faces = welded.reshape(-1)[mesh.faces]
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    owner = np.repeat(np.arange(len(faces)), 3)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    same = (edges[order][1:] == edges[order][:-1]).all(axis=1)
    pairs = np.stack([owner[order][:-1][same], owner[order][1:][same]], axis=1)
    ends = edges[order][1:][same]
    first = np.full(welded.max(initial=-1) + 1, 0, np.int64)
    first[welded.reshape(-1)] = np.arange(len(mesh.vertices))
    places = mesh.vertices.astype(np.float64)[first]
    lengths = np.linalg.norm(places[ends[:, 0]] - places[ends[:, 1]], axis=1)
    weights = lengths / max(float(lengths.mean()), 1e-12) if len(lengths) else lengths
    return Adjacency(pairs, weights * (1 - 0.9 * creases(mesh, pairs)))


def creases(mesh: Mesh, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """How sharply the surface bends inwards between pairs of faces, from 0, flat or outwards, to 1 at 60 degrees."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    middle = corners.mean(axis=1)
    one, other = normals[pairs[:, 0]], normals[pairs[:, 1]]
    inwards = ((middle[pairs[:, 1]] - middle[pairs[:, 0]]) * (one - other)).sum(axis=1) > 0
    bend = np.degrees(np.arccos(np.clip((one * other).sum(axis=1), -1.0, 1.0)))
    return np.where(inwards, np.clip(bend / 60.0, 0.0, 1.0), 0.0)


def face_votes(likelihoods: NDArray[np.float64], faces: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Mean log-likelihood [F, K] of the points [P, K] on each face; each of `count` faces has at least one."""
    logs = np.log(np.maximum(likelihoods, FLOOR))
    total = np.zeros((count, likelihoods.shape[1]))
    np.add.at(total, faces, logs)
    return total / np.maximum(np.bincount(faces, minlength=count), 1)[:, None]


def smoothed(votes: NDArray[np.float64], near: Adjacency, strength: float, rounds: int = 20) -> NDArray[np.int64]:
    """Labels [F] that agree with the votes [F, K] and with the neighbours: the mean-field solution of a Potts model
    (Krähenbühl & Koltun, 2011, on touching faces).

    Args:
        strength: what an edge of mean length between two labels costs, in units of log-likelihood; 0 takes the votes.
    """
    belief = _softmax(votes)
    for _ in range(rounds if strength > 0 and len(near.pairs) else 0):
        support = np.zeros_like(votes)
        for one, other in ((0, 1), (1, 0)):
            np.add.at(support, near.pairs[:, one], near.weights[:, None] * belief[near.pairs[:, other]])
        belief = _softmax(votes + strength * support)
    return belief.argmax(axis=1)


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(x - x.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
