"""Putting a shape together: parts with a label and a colour, each a union of primitives with cuts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from maquette_data3d.procedural import primitives as prim
from maquette_data3d.procedural.palette import MATERIALS, TRIM, PartMaterial, Vector
from maquette_data3d.procedural.rig import Rig

LONGEST_SIDE = 0.9


@dataclass(frozen=True)
class Program:
    """A shape as numbers.

    Attributes:
        rows: float64 [P, ROW], primitives sorted by part (see `primitives`).
        blend: radius of the smooth union between parts, 0 for a sharp one.
        part_names: a label a part.
        part_colors: float32 [parts, 3], sRGB albedo in [0, 1].
        materials: what each part is made of.
        rig: joints and bones of a creature, None for what has none.
    """

    rows: np.ndarray
    blend: float
    part_names: tuple[str, ...]
    part_colors: np.ndarray
    materials: tuple[PartMaterial, ...]
    rig: Rig | None


def turn(axis: str, degrees: float) -> np.ndarray:
    """Rotation matrix [3, 3] about an axis, right-handed."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def along(start: Vector, end: Vector) -> tuple[Vector, np.ndarray, float]:
    """Centre, rotation and half length of a primitive whose own y axis runs from `start` to `end`."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(b - a))
    up = (b - a) / length
    helper = np.array([1.0, 0, 0]) if abs(up[0]) < 0.9 else np.array([0, 0, 1.0])
    side = np.cross(helper, up)
    side /= np.linalg.norm(side)
    middle = (a + b) / 2
    return (middle[0], middle[1], middle[2]), np.stack([np.cross(up, side), up, side], axis=1), length / 2


@dataclass
class Builder:
    """Collects primitives part by part; `finish` centres and scales the shape into the unit cube.

    `material` names that of the parts that say no other and have no colour of trim.
    """

    blend: float = 0.0
    material: str = "painted wood"
    names: list[str] = field(default_factory=list)
    colors: list[Vector] = field(default_factory=list)
    materials: list[PartMaterial] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    limits: dict[int, tuple[Vector, Vector]] = field(default_factory=dict)
    rig: Rig = field(default_factory=Rig)

    def part(self, name: str, color: Vector, material: str = "") -> Builder:
        """Starts a part; the primitives that follow belong to it."""
        self.names.append(name)
        self.colors.append(color)
        self.materials.append(MATERIALS[material] if material else TRIM.get(color, MATERIALS[self.material]))
        return self

    def within(self, low: Vector, high: Vector) -> Builder:
        """Says that cuts leave of the latest primitive only what is inside this box; `finish` fits to that."""
        self.limits[len(self.rows) - 1] = (low, high)
        return self

    def _place(  # noqa: PLR0917
        self,
        kind: int,
        sizes: tuple[float, ...],
        at: Vector,
        rotation: np.ndarray | None,
        rounding: float,
        operation: int,
    ) -> Builder:
        row = np.zeros(prim.ROW)
        row[[prim.KIND, prim.OPERATION, prim.PART]] = kind, operation, len(self.names) - 1
        row[prim.ROUNDING] = rounding
        row[prim.ROTATION : prim.ORIGIN] = (np.eye(3) if rotation is None else rotation).T.ravel()
        row[prim.ORIGIN : prim.SIZES] = at
        row[prim.SIZES : prim.SIZES + len(sizes)] = sizes
        self.rows.append(row)
        return self

    def box(
        self,
        at: Vector,
        half: Vector,
        rounding: float = 0.0,
        rotation: np.ndarray | None = None,
        *,
        operation: int = prim.ADD,
    ) -> Builder:
        """Box of half extents `half` (rounding included)."""
        rounding = min(rounding, *(h * 0.95 for h in half))
        sizes = (half[0] - rounding, half[1] - rounding, half[2] - rounding)
        return self._place(prim.BOX, sizes, at, rotation, rounding, operation)

    def cylinder(
        self,
        at: Vector,
        radius: float,
        half: float,
        top: float | None = None,
        *,
        rounding: float = 0.0,
        rotation: np.ndarray | None = None,
        operation: int = prim.ADD,
    ) -> Builder:
        """Cylinder or cone stump along its own y axis: `radius` below, `top` above."""
        top = radius if top is None else top
        rounding = min(rounding, radius * 0.95, top * 0.95, half * 0.95)
        sizes = (radius - rounding, top - rounding, half - rounding)
        return self._place(prim.TAPER, sizes, at, rotation, rounding, operation)

    def rod(
        self, start: Vector, end: Vector, radius: float, top: float | None = None, rounding: float = 0.0
    ) -> Builder:
        """Cylinder or cone stump between two points."""
        at, rotation, half = along(start, end)
        return self.cylinder(at, radius, half, top, rounding=rounding, rotation=rotation)

    def limb(self, start: Vector, end: Vector, radius: float, top: float | None = None) -> Builder:
        """Round cone between two points, with a ball at either end."""
        at, rotation, half = along(start, end)
        sizes = (radius, radius if top is None else top, half)
        return self._place(prim.CONE, sizes, at, rotation, 0.0, prim.ADD)

    def prism(
        self,
        at: Vector,
        low: float,
        high: float,
        half: float,
        depth: float,
        *,
        rounding: float = 0.0,
        rotation: np.ndarray | None = None,
        operation: int = prim.ADD,
    ) -> Builder:
        """Trapezoid of half widths `low` (below) and `high` (above), extruded to +-`depth` along its z."""
        rounding = min(rounding, low * 0.95, high * 0.95, half * 0.95, depth * 0.95)
        sizes = (low - rounding, high - rounding, half - rounding, depth - rounding)
        return self._place(prim.PRISM, sizes, at, rotation, rounding, operation)

    def plate(  # noqa: PLR0917
        self,
        start: Vector,
        end: Vector,
        halves: tuple[float, float],
        thickness: float,
        across: Vector,
        rounding: float = 0.0,
    ) -> Builder:
        """Trapezoid plate from `start` to `end`: half widths at either end, along `across`; half `thickness`."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        length = float(np.linalg.norm(b - a))
        up = (b - a) / length
        side = np.asarray(across, float) - np.dot(across, up) * up
        side /= np.linalg.norm(side)
        rotation = np.stack([side, up, np.cross(side, up)], axis=1)
        x, y, z = ((a + b) / 2).tolist()
        return self.prism((x, y, z), *halves, length / 2, thickness, rounding=rounding, rotation=rotation)

    def lathe(
        self,
        at: Vector,
        radii: tuple[float, float, float, float, float, float],
        half: float,
        rounding: float = 0.0,
        rotation: np.ndarray | None = None,
        *,
        operation: int = prim.ADD,
    ) -> Builder:
        """Body of revolution around its y axis: a smooth profile through six radii, evenly spaced from below."""
        rounding = min(rounding, *(r * 0.95 for r in (*radii, half)))
        sizes = (*(r - rounding for r in radii), half - rounding)
        self._place(prim.LATHE, sizes, at, rotation, rounding, operation)
        self.rows[-1][prim.PROFILE :] = prim.profile(np.array(sizes[: prim.KNOTS]))
        return self

    def slab(
        self,
        at: Vector,
        half: Vector,
        corner: float,
        rounding: float = 0.0,
        rotation: np.ndarray | None = None,
    ) -> Builder:
        """Plate of half extents `half`, flat along its y axis, the corners of its outline round."""
        rounding = min(rounding, half[1] * 0.95)
        corner = min(corner, half[0], half[2])
        sizes = (half[0] - rounding, half[1] - rounding, half[2] - rounding, corner - rounding)
        return self._place(prim.SLAB, sizes, at, rotation, rounding, prim.ADD)

    def ring(
        self, at: Vector, ring: float, tube: float, half: float = 0.0, rotation: np.ndarray | None = None
    ) -> Builder:
        """Torus of its own x-y plane, pulled apart by `half` along its y axis."""
        return self._place(prim.LINK, (half, ring, tube), at, rotation, 0.0, prim.ADD)

    def ellipsoid(
        self,
        at: Vector,
        half: Vector,
        rotation: np.ndarray | None = None,
        operation: int = prim.ADD,
    ) -> Builder:
        """Ellipsoid of half axes `half`."""
        return self._place(prim.ELLIPSOID, half, at, rotation, 0.0, operation)

    def superquadric(self, at: Vector, half: Vector, p: float, q: float, rotation: np.ndarray | None = None) -> Builder:
        """Superquadric of half axes `half`; exponent p around the y axis, q along it (2 is an ellipsoid)."""
        return self._place(prim.SUPERQUADRIC, (*half, p, q), at, rotation, 0.0, prim.ADD)

    def finish(self) -> Program:
        """The shape, centred at the origin with the longest side of its bounding box at 0.9."""
        rows = np.stack(self.rows)
        low, high = self._bounds()
        scale = LONGEST_SIDE / float((high - low).max())
        rows[:, prim.ORIGIN : prim.SIZES] = (rows[:, prim.ORIGIN : prim.SIZES] - (low + high) / 2) * scale
        lengths = np.ones((len(rows), prim.ROUNDING + 1 - prim.SIZES), bool)
        lengths[rows[:, prim.KIND] == prim.SUPERQUADRIC, 3:5] = False  # exponents
        rows[:, prim.SIZES : prim.ROUNDING + 1][lengths] *= scale
        rows[:, prim.PROFILE :] *= scale
        rig = self.rig.moved((low + high) / 2, scale) if self.rig.names else None
        colors = np.asarray(self.colors, np.float32)
        return Program(rows, self.blend * scale, tuple(self.names), colors, tuple(self.materials), rig)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of the bounding box of all that is added, less what cuts are known to take."""
        lows, highs = [], []
        for number, row in enumerate(self.rows):
            if row[prim.OPERATION] == prim.ADD:
                origin = row[prim.ORIGIN : prim.SIZES]
                # The lower side needs the support in the opposite direction; stumps and cones are not symmetric.
                low, high = origin - prim.half_extents(_mirrored(row)), origin + prim.half_extents(row)
                if number in self.limits:
                    low, high = np.maximum(low, self.limits[number][0]), np.minimum(high, self.limits[number][1])
                lows.append(low)
                highs.append(high)
        return np.min(lows, axis=0), np.max(highs, axis=0)


def _mirrored(row: np.ndarray) -> np.ndarray:
    flipped = row.copy()
    flipped[prim.ROTATION : prim.ORIGIN] *= -1.0
    return flipped
