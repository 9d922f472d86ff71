"""Grids of distances in a narrow band, from coarse to fine: exact where the surface is near, signs elsewhere."""

from __future__ import annotations

import numpy as np
from einops import rearrange
from scipy import ndimage

from maquette_data3d.geometry.signs import regions
from maquette_kernels.distance.tree import TriangleTree

_BLOCK = 4
_COARSEST = 8  # blocks a side at which the search for near ones may begin
# Cells from the surface up to which blocks are near at least: two neighbours that are not have the same sign, for
# their centres are 4 cells apart and each is more than this plus 2.6 from the surface.
_LEAST_BAND = 1.5
_UNSURE = (0.1, 0.9)  # winding numbers of a far block between which its cells are looked at one by one


def cell_centres(resolution: int) -> np.ndarray:
    """Centres float64 [R^3, 3] of the unit cube's cells, [x, y, z] order."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def shell_band(tree: TriangleTree, resolution: int, truncation: float, half: float) -> np.ndarray:
    """clamp((distance - half) / truncation, -1, 1) float32 [R, R, R] around sheets."""
    near, distance = _distances(tree, resolution, truncation + half)
    cells = np.ones(((resolution // _BLOCK) ** 3, _BLOCK**3), np.float32)
    cells[near] = np.clip((distance - np.float32(half)) / np.float32(truncation), -1, 1)
    return _unblocked(cells, resolution // _BLOCK)


def solid_band(tree: TriangleTree, closed: bool, resolution: int, truncation: float) -> np.ndarray:
    """clamp(sdf / truncation, -1, 1) float32 [R, R, R] of what has an inside, closed or all but closed."""
    near, distance = _distances(tree, resolution, max(truncation, _LEAST_BAND / resolution))
    blocks = resolution // _BLOCK
    if closed:
        signs, coarse = _closed_signs(tree, near, distance, resolution)
        cells = np.repeat(coarse, _BLOCK**3).reshape(-1, _BLOCK**3)
    else:
        signs = _signs(tree, _cells(near, resolution).reshape(-1, 3)).reshape(distance.shape)
        cells = _open_far(tree, near, resolution)
    cells[near] = np.clip(distance * signs / np.float32(truncation), -1, 1)
    return _unblocked(cells, blocks)


def _signs(tree: TriangleTree, points: np.ndarray) -> np.ndarray:
    return np.where(tree.inside(points), np.float32(-1), np.float32(1))


def _distances(tree: TriangleTree, resolution: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers int64 [N] of blocks with a cell within reach, ascending, and distances float32 [N, cells]."""
    side, step = resolution // _BLOCK, 1
    while side % 2 == 0 and side > _COARSEST:
        side, step = side // 2, step * 2
    low = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3) * step
    children = np.array(list(np.ndindex(2, 2, 2)))
    while True:
        centres = (low + step / 2) * (_BLOCK / resolution) - 0.5
        corner = np.sqrt(3) / 2 * (_BLOCK * step - 1) / resolution
        away = tree.closest(centres)[0]
        within = away <= reach + corner
        low, away = low[within], away[within]
        if step == 1:
            break
        step //= 2
        low = (low[:, None] + children * step).reshape(-1, 3)
    blocks = resolution // _BLOCK
    near = (low[:, 0] * blocks + low[:, 1]) * blocks + low[:, 2]
    order = np.argsort(near)
    near, away = near[order], away[order]
    offsets = cell_centres(_BLOCK) * (_BLOCK / resolution)
    distance = tree.block_distances(_block_centres(near, blocks), away, corner, offsets)
    return near, distance.astype(np.float32)


def _cells(blocks: np.ndarray, resolution: int) -> np.ndarray:
    """Centres float64 [N, cells, 3] of the cells of numbered blocks."""
    side = resolution // _BLOCK
    return _block_centres(blocks, side)[:, None] + cell_centres(_BLOCK) * (_BLOCK / resolution)


def _open_far(tree: TriangleTree, near: np.ndarray, resolution: int) -> np.ndarray:
    """Signs float32 [blocks, cells] of far blocks, by cell where holes bend the winding number through them."""
    side = resolution // _BLOCK
    far = np.setdiff1d(np.arange(side**3), near)
    number = tree.winding(_block_centres(far, side))
    coarse = np.ones(side**3, np.float32)
    coarse[far[number > 0.5]] = -1.0
    cells = np.repeat(coarse, _BLOCK**3).reshape(-1, _BLOCK**3)
    unsure = far[(number > _UNSURE[0]) & (number < _UNSURE[1])]
    cells[unsure] = _signs(tree, _cells(unsure, resolution).reshape(-1, 3)).reshape(-1, _BLOCK**3)
    return cells


def _closed_signs(
    tree: TriangleTree, near: np.ndarray, distance: np.ndarray, resolution: int
) -> tuple[np.ndarray, np.ndarray]:
    """Signs of the near blocks' cells, and float32 [blocks] of the far ones: one cell of each region is asked."""
    side = resolution // _BLOCK
    filled = np.full((side**3, _BLOCK**3), np.nan, np.float32)
    filled[near] = distance
    region, first = regions(_unblocked(filled, side), np.float32(1.001 / resolution))
    signs = _blocked(_signs(tree, (first + 0.5) / resolution - 0.5)[region], side)[near]
    far = np.ones(side**3, bool)
    far[near] = False
    label, count = ndimage.label(far.reshape((side,) * 3))
    known, chosen = np.unique(label, return_index=True)
    of_label = np.ones(count + 1, np.float32)
    of_label[known] = _signs(tree, _block_centres(chosen, side))
    return signs, of_label[label.reshape(-1)]


def _block_centres(blocks: np.ndarray, side: int) -> np.ndarray:
    return (np.stack(np.unravel_index(blocks, (side,) * 3), -1) + 0.5) / side - 0.5


def _unblocked(cells: np.ndarray, blocks: int) -> np.ndarray:
    shape = {"i": blocks, "j": blocks, "k": blocks, "a": _BLOCK, "b": _BLOCK, "c": _BLOCK}
    return rearrange(cells, "(i j k) (a b c) -> (i a) (j b) (k c)", **shape)


def _blocked(grid: np.ndarray, blocks: int) -> np.ndarray:
    shape = {"a": _BLOCK, "b": _BLOCK, "c": _BLOCK}
    return rearrange(grid, "(i a) (j b) (k c) -> (i j k) (a b c)", **shape)
