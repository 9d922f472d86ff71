"""One point and one triangle; and the second kernel of ``closest_on_mesh``: the answer on a face that is known, in
double precision.
"""

# ruff: noqa: PLR0917
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _corner(vertices, faces, face, corner, live, face_row, face_column, vertex_row, vertex_column):
    """One corner of each point's face."""
    vertex = tl.load(faces + face * face_row + corner * face_column, mask=live, other=0).to(tl.int64)
    place = vertices + vertex * vertex_row
    x = tl.load(place, mask=live, other=0.0).to(tl.float64)
    y = tl.load(place + vertex_column, mask=live, other=0.0).to(tl.float64)
    z = tl.load(place + 2 * vertex_column, mask=live, other=0.0).to(tl.float64)
    return x, y, z


@triton.jit
def _share(along, squared):
    """Where on an edge the foot of a point is, from 0 to 1; 0 on an edge without length."""
    return tl.minimum(tl.maximum(tl.where(squared > 0.0, along / tl.where(squared > 0.0, squared, 1.0), 0.0), 0.0), 1.0)


@triton.jit
def _left(px, py, pz, bx, by, bz, cx, cy, cz, s, t):
    """Squared length of p - s b - t c."""
    u = px - s * bx - t * cx
    v = py - s * by - t * cy
    w = pz - s * bz - t * cz
    return u * u + v * v + w * w


@triton.jit
def nearest(px, py, pz, bx, by, bz, cx, cy, cz):
    """Squared distances from points p to triangles 0, b, c, and where: at s b + t c.

    The best of four points of the triangle: one on each edge, and the foot on the plane if it is inside. So rounding
    may miss the nearest point of a sliver by little, but never finds one that is not there.
    """
    bb = bx * bx + by * by + bz * bz
    cc = cx * cx + cy * cy + cz * cz
    bc = bx * cx + by * cy + bz * cz
    pb = px * bx + py * by + pz * bz
    pc = px * cx + py * cy + pz * cz
    first, second = _share(pb, bb), _share(pc, cc)
    best = _left(px, py, pz, bx, by, bz, cx, cy, cz, first, 0.0)
    other = _left(px, py, pz, bx, by, bz, cx, cy, cz, 0.0, second)
    s, t = tl.where(other < best, 0.0, first), tl.where(other < best, second, 0.0)
    best = tl.minimum(best, other)
    along = _share(pc - pb - bc + bb, bb + cc - 2.0 * bc)
    other = _left(px, py, pz, bx, by, bz, cx, cy, cz, 1.0 - along, along)
    s, t = tl.where(other < best, 1.0 - along, s), tl.where(other < best, along, t)
    best = tl.minimum(best, other)
    area = bb * cc - bc * bc
    scale = tl.where(area > 0.0, 1.0 / tl.where(area > 0.0, area, 1.0), 0.0)
    first = (cc * pb - bc * pc) * scale
    second = (bb * pc - bc * pb) * scale
    other = _left(px, py, pz, bx, by, bz, cx, cy, cz, first, second)
    better = (first > 0.0) & (second > 0.0) & (first + second < 1.0) & (other < best)
    s, t = tl.where(better, first, s), tl.where(better, second, t)
    return tl.where(better, other, best), s, t


@triton.jit
def _store(out, point, live, x, y, z):
    """Three numbers of each point."""
    tl.store(out + point * 3, x.to(tl.float32), mask=live)
    tl.store(out + point * 3 + 1, y.to(tl.float32), mask=live)
    tl.store(out + point * 3 + 2, z.to(tl.float32), mask=live)


@triton.jit
def answer_kernel(
    points, vertices, faces, face_in, distance_out, weights_out, direction_out,
    count, point_row, point_column, vertex_row, vertex_column, face_row, face_column,
    ANSWERS: tl.constexpr,
):  # fmt: skip
    point = tl.program_id(0).to(tl.int64) * ANSWERS + tl.arange(0, ANSWERS)
    live = point < count
    face = tl.load(face_in + point, mask=live, other=-1).to(tl.int64)
    found = face >= 0
    px = tl.load(points + point * point_row, mask=live, other=0.0).to(tl.float64)
    py = tl.load(points + point * point_row + point_column, mask=live, other=0.0).to(tl.float64)
    pz = tl.load(points + point * point_row + 2 * point_column, mask=live, other=0.0).to(tl.float64)
    sound = (px - px == 0.0) & (py - py == 0.0) & (pz - pz == 0.0)
    ax, ay, az = _corner(vertices, faces, face, 0, found, face_row, face_column, vertex_row, vertex_column)
    bx, by, bz = _corner(vertices, faces, face, 1, found, face_row, face_column, vertex_row, vertex_column)
    cx, cy, cz = _corner(vertices, faces, face, 2, found, face_row, face_column, vertex_row, vertex_column)
    px, py, pz, bx, by, bz, cx, cy, cz = px - ax, py - ay, pz - az, bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    _squared, s, t = nearest(px, py, pz, bx, by, bz, cx, cy, cz)
    x, y, z = px - s * bx - t * cx, py - s * by - t * cy, pz - s * bz - t * cz
    r = tl.maximum(1.0 - s - t, 0.0)  # not less by rounding
    length = tl.sqrt(x * x + y * y + z * z)
    distance = tl.where(found, length, tl.where(sound, float("inf"), float("nan")))
    tl.store(distance_out + point, distance.to(tl.float32), mask=live)
    _store(weights_out, point, live, tl.where(found, r, 0.0), tl.where(found, s, 0.0), tl.where(found, t, 0.0))
    scale = tl.where(found & (length > 0.0), 1.0 / tl.where(length > 0.0, length, 1.0), 0.0)
    _store(
        direction_out, point, live,
        tl.where(found, x * scale, 0.0), tl.where(found, y * scale, 0.0), tl.where(found, z * scale, 0.0),
    )  # fmt: skip
