"""Distances through the inside of a shape, on coarse voxels: what is near in space but not in the body is far.

After Dionne and de Lasa, "Geodesic Voxel Binding for Production Character Meshes", 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from maquette_models.rigging.bones import Bones, distances_to_bones

RESOLUTION = 32
_STEPS = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)])
_VOTES = 2  # of six directions, how many more must leave the shape than enter it


@dataclass(frozen=True)
class Solid:
    """The voxels of a shape in the unit cube: `number` int64 [R, R, R], -1 outside; `centres` float64 [N, 3]; `after`
    int64 [N, 13], the neighbours that follow in order, -1 for none, at `lengths` float64 [13]."""

    number: NDArray[np.int64]
    centres: NDArray[np.float64]
    after: NDArray[np.int64]
    lengths: NDArray[np.float64]


def solid_of(surface: NDArray[np.floating], normals: NDArray[np.floating], resolution: int = RESOLUTION) -> Solid:
    """The voxels that points [P, 3] of a surface lie in, and those inside.

    A voxel is inside where of the surfaces that are seen from it along the axes more show their backs; so holes between
    points do no harm.
    """
    places = voxels_of(surface, resolution)
    total = np.zeros((resolution,) * 3 + (3,))
    np.add.at(total, tuple(places.T), normals)
    shell = np.zeros((resolution,) * 3, bool)
    shell[tuple(places.T)] = True
    filled = shell | (sum(_seen(shell, total[..., axis], axis) for axis in range(3)) >= _VOTES)
    number = np.full(filled.shape, -1)
    number[filled] = np.arange(filled.sum())
    inside = np.argwhere(filled)
    padded = np.pad(number, 1, constant_values=-1)
    after = np.stack([padded[tuple((inside + 1 + step).T)] for step in _STEPS], axis=1)
    return Solid(number, (inside + 0.5) / resolution - 0.5, after, np.linalg.norm(_STEPS, axis=1) / resolution)


def geodesics(solid: Solid, bones: Bones) -> NDArray[np.float32]:
    """The length float32 [N, J] of the way inside from each voxel to each bone; where there is none, the longest way
    and the distance in space together."""
    straight = distances_to_bones(solid.centres, bones).distance
    start = np.where(straight <= np.maximum(solid.lengths[-1], straight.min(axis=0)), straight, np.inf)
    found = _spread(np.ascontiguousarray(start.T), solid.after, solid.lengths).T
    known = np.isfinite(found)
    longest = found[known].max() if known.any() else 0.0
    return np.where(known, found, longest + straight).astype(np.float32)


def voxels_of(points: NDArray[np.floating], resolution: int) -> NDArray[np.int64]:
    """The voxels int64 [P, 3] that points lie in; of those outside the cube the nearest."""
    return np.floor((points + 0.5) * resolution).astype(np.int64).clip(0, resolution - 1)


def _seen(shell: NDArray[np.bool_], normal: NDArray[np.float64], axis: int) -> NDArray[np.int64]:
    """From each voxel both ways along an axis: how many of the next surfaces show their backs, less those that show
    their fronts, int64 [R, R, R]."""
    shell, normal = np.moveaxis(shell, axis, 0), np.moveaxis(normal, axis, 0)
    votes = np.zeros(shell.shape, np.int64)
    for turn in (1, -1):
        at = np.where(shell[::turn], np.arange(len(shell)).reshape(-1, 1, 1), len(shell))
        following = np.minimum.accumulate(at[::-1], axis=0)[::-1]
        seen = np.take_along_axis(turn * normal[::turn], following.clip(max=len(shell) - 1), axis=0)
        votes[::turn] += np.where(following < len(shell), np.sign(seen), -1).astype(np.int64)
    return np.moveaxis(votes, 0, axis)


@numba.njit(cache=True)
def _spread(found: np.ndarray, after: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Shortest ways [J, N] from those that are known, by passes to and fro until nothing changes."""
    for bone in range(len(found)):
        row, changed = found[bone], True
        while changed:
            changed = False
            for turn in range(2):
                for i in range(len(row)):
                    here = i if turn == 0 else len(row) - 1 - i
                    for step in range(len(lengths)):
                        there = after[here, step]
                        if there < 0:
                            continue
                        if row[here] + lengths[step] < row[there] - 1e-12:
                            row[there] = row[here] + lengths[step]
                            changed = True
                        elif row[there] + lengths[step] < row[here] - 1e-12:
                            row[here] = row[there] + lengths[step]
                            changed = True
    return found
