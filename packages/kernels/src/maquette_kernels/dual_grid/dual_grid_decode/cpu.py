"""``dual_grid_decode`` for CPUs.

In the order of their keys, the neighbours of all voxels in one direction are in order too, so six pointers that only
move forward find them all, with no hash table.
"""

# Implementations and compiled functions take all arguments by position.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maquette_kernels.dual_grid.dual_grid_decode.blend import blend_backward, blend_forward
from maquette_kernels.dual_grid.dual_grid_decode.keys import FIELD, voxel_keys
from maquette_kernels.dual_grid.dual_grid_decode.reference import MARGIN
from maquette_kernels.threads import in_chunks

CHUNK = 1 << 15
STEPS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1))
_STRIDES = np.array([(x << 2 * FIELD) + (y << FIELD) + z for x, y, z in STEPS])
# For the edge along each axis, which of the steps lead to the voxels below along both other axes, and along one.
_BOTH, _SECOND, _FIRST = np.array([4, 5, 3]), np.array([2, 0, 1]), np.array([1, 2, 0])


def forward(
    voxels: Tensor,
    points: Tensor,
    edges: Tensor,
    signs: Tensor | None,
    weights: Tensor | None,
    resolution: int,
    blend: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and sources."""
    quads, owners = _quads(voxels, edges, signs)
    rank, taken = np.empty(len(voxels), np.int32), np.empty(len(voxels), np.int32)
    used = torch.from_numpy(taken[: _rank(quads, rank, taken)])
    places = voxels[:, -3:].double().add_(points)
    vertices = places[used] / resolution - 0.5
    if blend:
        corners = torch.from_numpy(rank)[torch.from_numpy(quads).long()]
        held = None if weights is None else weights.double()[torch.from_numpy(quads).long()]
        centres, faces = blend_forward(vertices, corners, held)
        made = torch.cat([vertices, centres]), faces, torch.cat([used, torch.from_numpy(owners)])
        return made[0].to(points.dtype), made[1], made[2]
    cut = np.empty((2 * len(quads), 3), np.int32)
    at, heavy = places.numpy(), None if weights is None else weights.double().contiguous().numpy()
    in_chunks(lambda a, b: _cut(at, heavy, quads, rank, cut, a, b), len(quads), CHUNK)
    return vertices.to(points.dtype), torch.from_numpy(cut), used


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of points and weights."""
    _, points, _, _, weights, resolution, blend = arguments
    faces, sources = residuals
    above = gradients[0]
    if above is None:
        return None, None
    voxels, moved, weighed = arguments[0], above.double(), None
    count = len(sources) - len(faces) // 4 if blend else len(sources)
    own = sources[:count].long()
    if blend:
        corners = faces.view(-1, 4, 3)[:, :, 0]
        held = None if weights is None else weights.double()[own[corners.long()]]
        vertices = (voxels[own, -3:].double() + points[own]) / resolution
        moved, weighed = blend_backward(moved, vertices, corners, held)
    pulled = points.new_zeros(points.shape)
    pulled[own] = (moved / resolution).to(points.dtype)
    if weighed is None:
        return pulled, None
    spread = weights.new_zeros(weights.shape)
    spread[own] = weighed.to(weights.dtype)
    return pulled, spread


def _quads(voxels: Tensor, edges: Tensor, signs: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Voxels round each crossed edge that has all four, int32 [Q, 4], and the one that it leaves, int32 [Q]."""
    keys = voxel_keys(voxels)
    order = None if bool((keys[1:] > keys[:-1]).all()) else keys.argsort()
    ordered = (keys if order is None else keys[order]).numpy()
    found = np.empty((len(keys), 6), np.int32)
    in_chunks(lambda a, b: _neighbours(ordered, _STRIDES, found, a, b), len(keys), CHUNK)
    if order is not None:  # places among the ordered voxels become places among the given ones
        given = np.append(order.numpy(), -1).astype(np.int32)
        found = given[found[order.argsort().numpy()]]
    crossed = edges.contiguous().numpy()
    looks = crossed if signs is None else signs.contiguous().numpy()
    quads = np.empty((3 * len(keys), 4), np.int32)
    owners = np.empty(3 * len(keys), np.int32)
    count = _emit(found, crossed, looks, quads, owners)
    return quads[:count], owners[:count]


@njit(cache=True, nogil=True)
def _neighbours(keys, strides, found, start, stop):
    """Fills places [n, 6] of the voxels that lie a stride below, -1 where there is none."""
    for d in range(len(strides)):
        at = np.searchsorted(keys, keys[start] - strides[d])
        for n in range(start, stop):
            wanted = keys[n] - strides[d]
            while keys[at] < wanted:
                at += 1
            found[n, d] = at if keys[at] == wanted else -1


@njit(cache=True, nogil=True)
def _emit(found, crossed, looks, quads, owners):
    count = 0
    for axis in range(3):
        for n in range(len(found)):
            if not crossed[n, axis]:
                continue
            both, second, first = found[n, _BOTH[axis]], found[n, _SECOND[axis]], found[n, _FIRST[axis]]
            if both < 0 or second < 0 or first < 0:
                continue
            if looks[n, axis]:
                quads[count, 0], quads[count, 1], quads[count, 2], quads[count, 3] = both, second, n, first
            else:
                quads[count, 0], quads[count, 1], quads[count, 2], quads[count, 3] = first, n, second, both
            owners[count] = n
            count += 1
    return count


@njit(cache=True, nogil=True)
def _rank(quads, rank, used):
    """Fills the voxels that quads use, in order, and the place of each among them; gives their number."""
    rank[:] = 0
    for q in range(len(quads)):
        for c in range(4):
            rank[quads[q, c]] = 1
    count = 0
    for n in range(len(rank)):
        if rank[n]:
            used[count] = n
            rank[n] = count
            count += 1
    return count


@njit(cache=True, nogil=True)
def _cross(places, a, b, c, out):
    """Fills the normal of the triangle of three places, twice its area long."""
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        u, v = places[b, i] - places[a, i], places[b, j] - places[a, j]
        out[k] = u * (places[c, j] - places[a, j]) - v * (places[c, i] - places[a, i])


@njit(cache=True, nogil=True)
def _cosine(places, a, b, c, d, one, two):
    """Between the normals of the halves a b c and a c d of a quad."""
    _cross(places, a, b, c, one)
    _cross(places, a, c, d, two)
    along, first, second = 0.0, 0.0, 0.0
    for k in range(3):
        along += one[k] * two[k]
        first += one[k] * one[k]
        second += two[k] * two[k]
    return along / max(np.sqrt(first) * np.sqrt(second), 1e-300)


@njit(cache=True, nogil=True)
def _cut(places, weights, quads, rank, faces, start, stop):
    """Fills two triangles a quad."""
    one, two = np.empty(3), np.empty(3)
    for q in range(start, stop):
        a, b, c, d = quads[q]
        if weights is None:
            other = _cosine(places, b, c, d, a, one, two) > _cosine(places, a, b, c, d, one, two) + MARGIN
        else:
            other = weights[b] * weights[d] > weights[a] * weights[c]
        if other:
            a, b, c, d = b, c, d, a
        faces[2 * q, 0], faces[2 * q, 1], faces[2 * q, 2] = rank[a], rank[b], rank[c]
        faces[2 * q + 1, 0], faces[2 * q + 1, 1], faces[2 * q + 1, 2] = rank[a], rank[c], rank[d]
