"""``winding_number`` in Triton: the exact sum, tiles of points against tiles of faces."""

# ruff: noqa: PLR0917
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.distance.face_tiles import FACES, POINTS, tiles_of
from maquette_kernels.triton_support import Compilation

QUARTER = tl.constexpr(1.5707963267948966)
HALF = tl.constexpr(3.141592653589793)


@triton.jit
def _arctangent(y, x):
    """Angle of (x, y), off by 1e-7 at most (Abramowitz and Stegun 1964, 4.4.49); 0 for (0, 0)."""
    over, under = tl.abs(y), tl.abs(x)
    long = tl.maximum(over, under)
    z = tl.minimum(over, under) / tl.where(long > 0.0, long, 1.0)
    q = z * z
    p = 0.0028662257 * q - 0.0161657367
    p = p * q + 0.0429096138
    p = p * q - 0.0752896400
    p = p * q + 0.1065626393
    p = p * q - 0.1420889944
    p = p * q + 0.1999355085
    p = p * q - 0.3333314528
    angle = z + z * q * p
    angle = tl.where(over > under, QUARTER - angle, angle)
    angle = tl.where(x < 0.0, HALF - angle, angle)
    return tl.where(y < 0.0, -angle, angle)


@triton.jit
def _half_angles(ax, ay, az, ux, uy, uz, vx, vy, vz):
    """Half the solid angles of triangles a, a + u, a + v (van Oosterom and Strackee 1983); 0 in their own plane."""
    bx, by, bz, cx, cy, cz = ax + ux, ay + uy, az + uz, ax + vx, ay + vy, az + vz
    la = tl.sqrt(ax * ax + ay * ay + az * az)
    lb = tl.sqrt(bx * bx + by * by + bz * bz)
    lc = tl.sqrt(cx * cx + cy * cy + cz * cz)
    ab = ax * bx + ay * by + az * bz
    ac = ax * cx + ay * cy + az * cz
    bc = bx * cx + by * cy + bz * cz
    volume = ax * (uy * vz - uz * vy) + ay * (uz * vx - ux * vz) + az * (ux * vy - uy * vx)
    whole = la * lb * lc + ab * lc + bc * la + ac * lb
    return tl.where(volume == 0.0, 0.0, _arctangent(volume, whole))


@triton.jit
def _of_tile(x, y, z, rows, first, faces, FACES: tl.constexpr):
    """Half solid angles of a tile's faces at each point; 0 where there is no face."""
    face = first.to(tl.int64) + tl.arange(0, FACES)
    ax = tl.load(rows + face)[None, :]
    ay = tl.load(rows + faces + face)[None, :]
    az = tl.load(rows + 2 * faces + face)[None, :]
    ux = tl.load(rows + 3 * faces + face)[None, :]
    uy = tl.load(rows + 4 * faces + face)[None, :]
    uz = tl.load(rows + 5 * faces + face)[None, :]
    vx = tl.load(rows + 6 * faces + face)[None, :]
    vy = tl.load(rows + 7 * faces + face)[None, :]
    vz = tl.load(rows + 8 * faces + face)[None, :]
    angles = _half_angles(ax - x[:, None], ay - y[:, None], az - z[:, None], ux, uy, uz, vx, vy, vz)
    return tl.where(ax - ax == 0.0, angles, 0.0)


@triton.jit
def number_kernel(
    points, rows, number_out, count, faces, point_row, point_column, POINTS: tl.constexpr, FACES: tl.constexpr
):  # fmt: skip
    point = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    live = point < count
    place = points + point * point_row
    x = tl.load(place, mask=live, other=0.0)
    y = tl.load(place + point_column, mask=live, other=0.0)
    z = tl.load(place + 2 * point_column, mask=live, other=0.0)
    sound = (x - x == 0.0) & (y - y == 0.0) & (z - z == 0.0)
    x, y, z = tl.where(sound, x, 0.0), tl.where(sound, y, 0.0), tl.where(sound, z, 0.0)
    total = tl.zeros((POINTS, FACES), tl.float32)
    first = tl.program_id(0) * 0  # not a constant, even where there is one tile
    while first < faces:
        total += _of_tile(x, y, z, rows, first, faces, FACES)
        first += FACES
    number = tl.sum(total, 1) / (2.0 * HALF)
    tl.store(number_out + point, tl.where(sound, number, float("nan")), mask=live)


def forward(points: Tensor, vertices: Tensor, faces: Tensor, accuracy: float) -> Tensor:
    """One number a point, exact up to rounding whatever the accuracy."""
    number = points.new_zeros(len(points))
    if not len(points):
        return number
    rows = tiles_of(vertices, faces).rows
    number_kernel[(triton.cdiv(len(points), POINTS),)](
        points, rows, number, len(points), rows.shape[1], *points.stride(), POINTS=POINTS, FACES=FACES
    )
    return number


def compilations() -> list[Compilation]:
    """The kernel as it runs on contiguous float32 points."""
    whole = dict.fromkeys(("count", "faces", "point_row", "point_column"), "i32")
    places = dict.fromkeys(("points", "rows", "number_out"), "*fp32")
    return [Compilation(number_kernel, {**places, **whole}, {"POINTS": POINTS, "FACES": FACES})]
