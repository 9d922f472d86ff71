"""Signed distances, dense grids and surface samples of a mesh as it is: closed, open, or both at once.

Parts with an inside get their exact distance, signed by the winding number (negative where it is over one
half: a hard sign, for a soft one bends every distance near a hole). What has no inside becomes a shell of
`SHELL` voxels to either side, so that nothing is lost. The minimum over all of them is the field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from scipy.spatial import cKDTree

from maquette_data3d.geometry.bodies import Bodies, find, winding
from maquette_data3d.geometry.repair import CleanMesh, clean
from maquette_data3d.geometry.signs import is_closed, regions

SHELL = 0.75
_BLOCK = 4
_UNSURE = (0.1, 0.9)  # winding numbers of a far block between which its cells are looked at one by one
_COLOR_SAMPLES = 16_384
_TOUCH = 1e-4


@dataclass(frozen=True)
class MeshField:
    """A signed distance field over the unit cube.

    Attributes:
        bodies: solids and sheets.
        half_shell: half thickness of the sheets, in the unit cube's units.
    """

    bodies: Bodies
    half_shell: float

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance float64 [P] at points [P, 3]: exact outside solids and near every surface."""
        points = np.ascontiguousarray(points, np.float64)
        values = [_signed(self.bodies.vertices, faces, points) for faces in self._solids()]
        shell = self._shell()
        if len(shell):
            values.append(_unsigned(self.bodies.vertices, shell, points) - self.half_shell)
        return np.min(values, axis=0)

    def tsdf(self, resolution: int, truncation: float) -> np.ndarray:
        """clamp(sdf / truncation, -1, 1) float32 [R, R, R], [x, y, z], cell-centred; R a multiple of 4."""
        grid = np.ones((resolution,) * 3, np.float32)
        for faces in self._solids():
            np.minimum(grid, self._band(faces, resolution, truncation, None), out=grid)
        shell = self._shell()
        if len(shell):
            np.minimum(grid, self._band(shell, resolution, truncation, self.half_shell), out=grid)
        return grid

    def _solids(self) -> list[np.ndarray]:
        return [self.bodies.faces[group] for group in self.bodies.solids]

    def _shell(self) -> np.ndarray:
        return self.bodies.faces[np.concatenate([self.bodies.sheet, self.bodies.thin])]

    def _band(self, faces: np.ndarray, resolution: int, truncation: float, shell: float | None) -> np.ndarray:
        """One group's grid: distances only in blocks that its band reaches, signs only where they change."""
        vertices, solid = self.bodies.vertices, shell is None
        blocks = resolution // _BLOCK
        centres = cell_centres(blocks)
        reach = np.sqrt(3) * 0.5 * (_BLOCK - 1) / resolution
        far = _unsigned(vertices, faces, centres)
        near = far <= truncation + reach + (shell or 0.0)
        coarse = np.ones(len(centres), np.float32)
        unsure = np.zeros(len(centres), bool)
        if solid:
            number = np.zeros(len(centres))
            number[~near] = winding(vertices, faces, centres[~near]) if (~near).any() else 0.0
            coarse[number > 0.5] = -1.0
            unsure = (number > _UNSURE[0]) & (number < _UNSURE[1]) & ~near
        offsets = cell_centres(_BLOCK) * (_BLOCK / resolution)
        cells = np.repeat(coarse, _BLOCK**3).reshape(-1, _BLOCK**3)
        points = (centres[near][:, None] + offsets).reshape(-1, 3)
        if len(points):
            distance = _unsigned(vertices, faces, points).astype(np.float32).reshape(-1, _BLOCK**3)
            if solid:
                distance *= _signs(vertices, faces, distance, near, points, resolution)
            cells[near] = np.clip((distance - (shell or 0.0)) / truncation, -1, 1)
        if unsure.any():
            points = (centres[unsure][:, None] + offsets).reshape(-1, 3)
            inside = winding(vertices, faces, points) > 0.5
            cells[unsure] = np.where(inside, -1.0, 1.0).reshape(-1, _BLOCK**3)
        return _unblocked(cells, blocks)

    def surface(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Uniform points on the field's surface.

        Points inside another solid are not on it and are drawn again; those of sheets are moved to either
        side by the shell's half thickness.

        Returns:
            points float32 [count, 3], normals float32 [count, 3], colors uint8 [count, 3] (sRGB).
        """
        found: list[tuple[np.ndarray, ...]] = []
        for _ in range(4):
            points, normals, colors, group = self._draw(count, rng)
            outside = self._is_outer(points + normals * _TOUCH, group)
            found.append((points[outside], normals[outside], colors[outside]))
            if sum(len(part[0]) for part in found) >= count:
                break
        else:
            found.append((points, normals, colors))
        joined = [np.concatenate(parts)[:count] for parts in zip(*found, strict=True)]
        return joined[0].astype(np.float32), joined[1].astype(np.float32), joined[2]

    def _draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Points, normals, colours, and the group that each is drawn from (-1: sheets)."""
        bodies = self.bodies
        group = np.full(len(bodies.faces), -1)
        for number, faces in enumerate(bodies.solids):
            group[faces] = number
        thin = np.zeros(len(bodies.faces), bool)
        thin[bodies.thin] = True
        a, b, c = (bodies.vertices[bodies.faces[:, i]] for i in range(3))
        scaled = np.cross(b - a, c - a)
        lengths = np.linalg.norm(scaled, axis=1)
        total = np.cumsum(lengths)
        chosen = np.minimum(np.searchsorted(total, rng.random(count) * total[-1], side="right"), len(lengths) - 1)
        u, v = rng.random((count, 1)), rng.random((count, 1))
        fold = u + v > 1
        u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
        points = a[chosen] + (b - a)[chosen] * u + (c - a)[chosen] * v
        normals = scaled[chosen] / lengths[chosen][:, None]
        corners = bodies.corner_colors[chosen].astype(np.float64)
        blend = corners[:, 0] * (1 - u - v) + corners[:, 1] * u + corners[:, 2] * v
        # A sheet has two sides, and each point takes one; a thin solid's surface moves outwards.
        sheet = group[chosen] < 0
        normals[sheet & (rng.random(count) < 0.5)] *= -1.0
        points[sheet | thin[chosen]] += normals[sheet | thin[chosen]] * self.half_shell
        return points, normals, np.round(blend).astype(np.uint8), group[chosen]

    def _is_outer(self, points: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Points bool [P] that no other solid and no shell hides."""
        outer = np.ones(len(points), bool)
        for number, faces in enumerate(self._solids()):
            asked = outer & (group != number) & _within(points, self.bodies.vertices[faces])
            if asked.any():
                outer[asked] = winding(self.bodies.vertices, faces, points[asked]) < 0.5
        shell = self._shell()
        if len(shell):
            outer[outer] = _unsigned(self.bodies.vertices, shell, points[outer]) >= self.half_shell
        return outer


def _within(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    return ((points >= corners.min((0, 1))) & (points <= corners.max((0, 1)))).all(1)


def _unsigned(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    import igl

    squared = igl.point_mesh_squared_distance(np.ascontiguousarray(points), vertices, faces.astype(np.int64))[0]
    return np.sqrt(np.maximum(np.asarray(squared), 0.0))


def _signed(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    inside = winding(vertices, faces, points) > 0.5
    return np.where(inside, -1.0, 1.0) * _unsigned(vertices, faces, points)


def _signs(  # noqa: PLR0917
    vertices: np.ndarray,
    faces: np.ndarray,
    distance: np.ndarray,
    near: np.ndarray,
    points: np.ndarray,
    resolution: int,
) -> np.ndarray:
    """Signs float32 [blocks near, cells] by winding number; of closed surfaces one cell a region is asked."""
    if not is_closed(faces):
        return np.where(winding(vertices, faces, points) > 0.5, np.float32(-1), np.float32(1)).reshape(distance.shape)
    blocks = resolution // _BLOCK
    filled = np.full((blocks**3, _BLOCK**3), np.nan, np.float32)
    filled[near] = distance
    region, first = regions(_unblocked(filled, blocks), np.float32(1.001 / resolution))
    inside = winding(vertices, faces, (first + 0.5) / resolution - 0.5) > 0.5
    signs = np.where(inside, np.float32(-1), np.float32(1))[region]
    return _blocked(signs, blocks)[near]


def _unblocked(cells: np.ndarray, blocks: int) -> np.ndarray:
    shape = {"i": blocks, "j": blocks, "k": blocks, "a": _BLOCK, "b": _BLOCK, "c": _BLOCK}
    return rearrange(cells, "(i j k) (a b c) -> (i a) (j b) (k c)", **shape)


def _blocked(grid: np.ndarray, blocks: int) -> np.ndarray:
    shape = {"a": _BLOCK, "b": _BLOCK, "c": _BLOCK}
    return rearrange(grid, "(i a) (j b) (k c) -> (i j k) (a b c)", **shape)


def cell_centres(resolution: int) -> np.ndarray:
    """Centres float64 [R^3, 3] of the unit cube's cells, [x, y, z] order."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def mesh_field(vertices: np.ndarray, faces: np.ndarray, corner_colors: np.ndarray, resolution: int) -> MeshField:
    """The field of a mesh in any position and units: it is normalised and repaired first.

    Args:
        vertices: float [V, 3]; faces: int [F, 3]; corner_colors: uint8 [F, 3, 3].
        resolution: cells along the unit cube, which sets how thick a sheet becomes.
    """
    return field_of(clean(np.asarray(vertices, np.float64), np.asarray(faces, np.int64), corner_colors), resolution)


def field_of(mesh: CleanMesh, resolution: int) -> MeshField:
    """The field of a cleaned mesh."""
    return MeshField(find(mesh, 1.0 / resolution), SHELL / resolution)


def sample_of(field: MeshField, resolution: int, truncation: float, points: int, seed: int) -> dict[str, np.ndarray]:
    """Everything a shard stores of a mesh but its class; a pure function of the arguments.

    Returns:
        tsdf float16 [1, R, R, R], color uint8 [3, R/2, R/2, R/2], surface and normals float16 [N, 3].
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    surface, normals, colors = field.surface(max(points, _COLOR_SAMPLES), rng)
    half = resolution // 2
    _, nearest = cKDTree(surface, balanced_tree=False, compact_nodes=False).query(cell_centres(half))
    return {
        "tsdf": field.tsdf(resolution, truncation)[None].astype(np.float16),
        "color": np.ascontiguousarray(colors[nearest].T.reshape(3, half, half, half)),
        "surface": surface[:points].astype(np.float16),
        "normals": normals[:points].astype(np.float16),
    }
