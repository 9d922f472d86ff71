"""``dual_grid_encode`` as it is defined: every triangle cut to every cell of its box, one by one, in float64."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from maquette_kernels.dual_grid.dual_grid_encode.weights import BORDER, CROSSING, MEAN, SHIFT, SLIVER

Place = list[float]
Cell = tuple[int, ...]


class Quadric:
    """What a cell holds: the sum of w (x - p)' M (x - p) as its matrix and right side, and the mean of its points."""

    def __init__(self) -> None:
        self.matrix, self.right = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        self.moment, self.weight = torch.zeros(3, dtype=torch.float64), 0.0

    def add(self, matrix: Tensor, point: Tensor) -> None:
        """Adds a form about a point."""
        self.matrix += matrix
        self.right += matrix @ point


def reference(vertices: Tensor, faces: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Voxels, points, edges and signs."""
    cells, matrices, rights, surplus = systems(vertices, faces, resolution)
    points = torch.linalg.solve(matrices, rights[:, :, None])[:, :, 0].clamp(0, 1)
    voxels = torch.tensor(cells, dtype=torch.int32).reshape(-1, 3)
    edges = torch.tensor([[(*c, a) in surplus for a in range(3)] for c in cells], dtype=torch.bool).reshape(-1, 3)
    signs = torch.tensor([[surplus.get((*c, a), -1) >= 0 for a in range(3)] for c in cells], dtype=torch.bool)
    device = vertices.device
    found = voxels, points.to(vertices.dtype), edges, signs.reshape(-1, 3)
    return tuple(tensor.to(device) for tensor in found)  # type: ignore[return-value]


def systems(vertices: Tensor, faces: Tensor, resolution: int) -> tuple[list[Cell], Tensor, Tensor, dict[Cell, int]]:
    """Touched cells in order, the equations of their points [n, 3, 3] and [n, 3], and crossings along less against
    the edge from each cell along each axis, by (x, y, z, axis).
    """
    moved = vertices.detach().cpu().double() + torch.tensor(SHIFT, dtype=torch.float64) / resolution
    corners = (moved[faces.cpu().long()] + 0.5) * resolution
    found: dict[Cell, Quadric] = defaultdict(Quadric)
    for triangle in corners:
        _add_areas(found, triangle, resolution)
    surplus: dict[Cell, int] = {}
    for triangle in corners:
        _add_crossings(found, surplus, triangle, resolution)
    for start, end in _borders(corners, faces.tolist()):
        _add_border(found, start, end, resolution)
    cells = sorted(found)
    matrices, rights = torch.zeros(len(cells), 3, 3, dtype=torch.float64), torch.zeros(len(cells), 3).double()
    for n, cell in enumerate(cells):
        quadric, middle = found[cell], torch.full((3,), 0.5, dtype=torch.float64)
        if quadric.weight > 0:
            matrices[n], rights[n] = quadric.matrix / quadric.weight, quadric.right / quadric.weight
            middle = quadric.moment / quadric.weight
        matrices[n] += MEAN * torch.eye(3)
        rights[n] += MEAN * middle
    return cells, matrices, rights, {key: value for key, value in surplus.items() if key[:3] in found}


def _cells(corners: Tensor, resolution: int) -> Iterator[Cell]:
    """Cells, closed boxes, that meet the box of some points, within the grid."""
    low, high = corners.amin(0).tolist(), corners.amax(0).tolist()
    ranges = [
        range(max(math.ceil(a) - 1, 0), min(math.floor(b), resolution - 1) + 1) for a, b in zip(low, high, strict=True)
    ]
    return product(*ranges)


def clipped(polygon: list[Place], cell: Cell) -> list[Place]:
    """The part of a convex polygon in a cell, by Sutherland and Hodgman."""
    for axis, upper in product(range(3), (False, True)):
        bound, sign = cell[axis] + upper, -1.0 if upper else 1.0
        kept = []
        for p, q in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
            d, e = sign * (p[axis] - bound), sign * (q[axis] - bound)
            if d >= 0:
                kept.append(p)
            if d * e < 0:
                at = [a + d / (d - e) * (b - a) for a, b in zip(p, q, strict=True)]
                at[axis] = bound
                kept.append(at)
        polygon = kept
    return polygon


def _normal(triangle: Tensor) -> Tensor | None:
    # Not torch's own cross product, which fuses multiplications with additions: that of equal sides is to be 0.
    u, v = triangle[1] - triangle[0], triangle[2] - triangle[0]
    normal = u.roll(-1) * v.roll(-2) - u.roll(-2) * v.roll(-1)
    length = normal.norm()
    return normal / length if length > 0 else None


def _add_areas(found: dict[Cell, Quadric], triangle: Tensor, resolution: int) -> None:
    """Touches cells, and adds to each the triangle's plane by the area in it."""
    normal = _normal(triangle)
    for cell in _cells(triangle, resolution):
        polygon = clipped(triangle.tolist(), cell)
        if not polygon:
            continue
        quadric = found[cell]
        if normal is None or len(polygon) < 3:
            continue
        ring = torch.tensor(polygon, dtype=torch.float64) - torch.tensor(cell)
        u, v = ring[1:-1] - ring[0], ring[2:] - ring[0]
        areas = (torch.linalg.cross(u, v) @ normal).abs() / 2 + SLIVER
        moment, area = (areas[:, None] * (ring[0] + (u + v) / 3)).sum(0), areas.sum()
        quadric.add(area * torch.outer(normal, normal), moment / area)
        quadric.moment += moment
        quadric.weight += area.item()


def _add_crossings(found: dict[Cell, Quadric], surplus: dict[Cell, int], triangle: Tensor, resolution: int) -> None:
    """Counts crossings of the grid's lines, and adds the plane to the four cells around each."""
    normal = _normal(triangle)
    if normal is None:
        return
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        flat = triangle[:, [u, v]]
        area = torch.linalg.det(flat[1:] - flat[0])
        for i, j in product(*(_lines(triangle[:, k], resolution) for k in (u, v))):
            at = torch.tensor([i, j], dtype=torch.float64)
            shares = torch.stack([torch.linalg.det(flat[[k - 2, k - 1]] - at) for k in range(3)]) / area
            if area == 0 or not (shares >= 0).all():
                continue
            point = torch.empty(3, dtype=torch.float64)
            point[u], point[v], point[axis] = i, j, shares @ triangle[:, axis]
            cell = [0, 0, 0]
            cell[u], cell[v], cell[axis] = i, j, math.floor(point[axis])
            key = (*cell, axis)
            surplus[key] = surplus.get(key, 0) + (1 if area > 0 else -1)
            for one, two in product(range(2), repeat=2):
                around = list(cell)
                around[u], around[v] = i - one, j - two
                if tuple(around) in found:
                    form = CROSSING * torch.outer(normal, normal)
                    found[tuple(around)].add(form, point - torch.tensor(around))


def _lines(coordinates: Tensor, resolution: int) -> range:
    """Lines of the grid that coordinates span."""
    low, high = coordinates.min().item(), coordinates.max().item()
    return range(max(math.ceil(low), 0), min(math.floor(high), resolution) + 1)


def _borders(corners: Tensor, faces: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Ends of the edges that one face alone has; faces that name a vertex twice have none."""
    whole = [(f, face) for f, face in enumerate(faces) if len(set(face)) == 3]
    uses = Counter(frozenset((face[c], face[c - 1])) for _, face in whole for c in range(3))
    for f, face in whole:
        for c in range(3):
            if uses[frozenset((face[c], face[c - 1]))] == 1:
                yield corners[f, c - 1], corners[f, c]


def _add_border(found: dict[Cell, Quadric], start: Tensor, end: Tensor, resolution: int) -> None:
    """Adds the squared distance to a segment's line by the length in each cell."""
    along = end - start
    length = along.norm()
    for cell in _cells(torch.stack([start, end]), resolution) if length > 0 else ():
        low, high = 0.0, 1.0
        for axis in range(3):
            a, d = start[axis].item(), along[axis].item()
            if d == 0:
                low = low if cell[axis] <= a <= cell[axis] + 1 else 2.0
                continue
            near, far = sorted([(cell[axis] - a) / d, (cell[axis] + 1 - a) / d])
            low, high = max(low, near), min(high, far)
        if high > low and cell in found:
            unit = along / length
            form = BORDER * length * (high - low) * (torch.eye(3) - torch.outer(unit, unit))
            found[cell].add(form, start + along * (low + high) / 2 - torch.tensor(cell))
