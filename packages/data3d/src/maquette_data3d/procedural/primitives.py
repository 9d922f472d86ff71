"""Signed distances of the primitives that procedural shapes are made of.

A primitive is one row of a float64 matrix (``ROW`` columns), so that a whole shape is plain numbers that
compiled code walks over. Lengths are in the unit cube's units; every function takes a point in the
primitive's own frame and returns a signed distance, negative inside.

All are exact, but for the two convex bodies without a closed form (ellipsoid, superquadric). Their distance
is the maximum over unit normals n of n.x - h(n), h being the support function; a few steps of that maximum
give a lower bound of the signed distance that touches it at the surface, which is what coarse-to-fine
evaluation needs. Formulas for the exact ones after I. Quilez, "Distance functions".
"""

# ruff: noqa: PLR0917  (compiled functions take plain positional arguments)
from __future__ import annotations

import math

import numpy as np
from numba import njit

BOX, TAPER, PRISM, SLAB, CONE, LINK, ELLIPSOID, SUPERQUADRIC, LATHE = range(9)
ADD, CUT = range(2)

# Columns of a row: what, how, whose, where, its sizes; of a lathe the radii of its profile as well.
KIND, OPERATION, PART, ROTATION, ORIGIN, SIZES, ROUNDING, PROFILE = 0, 1, 2, 3, 12, 15, 23, 24
REFINEMENTS, CONVERGED = 4, 2e-5
KNOTS, STEPS = 6, 3  # of a lathe's profile: radii given, and straight pieces between two of them
PIECES = (KNOTS - 1) * STEPS
ROW = PROFILE + PIECES + 1


@njit(cache=True, inline="always")
def box(x: float, y: float, z: float, a: float, b: float, c: float) -> float:
    """Box of half extents (a, b, c)."""
    dx, dy, dz = abs(x) - a, abs(y) - b, abs(z) - c
    ox, oy, oz = max(dx, 0.0), max(dy, 0.0), max(dz, 0.0)
    return math.sqrt(ox * ox + oy * oy + oz * oz) + min(max(dx, dy, dz), 0.0)


@njit(cache=True, inline="always")
def taper(x: float, y: float, low: float, high: float, h: float) -> float:
    """Trapezoid in the half plane x >= 0: half width `low` at y = -h, `high` at y = +h."""
    edge = low if y < 0.0 else high
    ax, ay = x - min(x, edge), abs(y) - h
    kx, ky = high - low, 2.0 * h
    t = ((high - x) * kx + (h - y) * ky) / (kx * kx + ky * ky)
    t = min(max(t, 0.0), 1.0)
    bx, by = x - high + kx * t, y - h + ky * t
    d = math.sqrt(min(ax * ax + ay * ay, bx * bx + by * by))
    return -d if bx < 0.0 and ay < 0.0 else d


@njit(cache=True, inline="always")
def prism(x: float, y: float, z: float, low: float, high: float, h: float, depth: float) -> float:
    """Trapezoid of the x-y plane, extruded to |z| <= depth."""
    flat = taper(abs(x), y, low, high, h)
    over = abs(z) - depth
    ox, oz = max(flat, 0.0), max(over, 0.0)
    return math.sqrt(ox * ox + oz * oz) + min(max(flat, over), 0.0)


@njit(cache=True, inline="always")
def slab(x: float, y: float, z: float, a: float, h: float, c: float, corner: float) -> float:
    """Rectangle of the x-z plane of half sides (a, c) with rounded corners, extruded to |y| <= h."""
    dx, dz = abs(x) - a + corner, abs(z) - c + corner
    ox, oz = max(dx, 0.0), max(dz, 0.0)
    flat = math.sqrt(ox * ox + oz * oz) + min(max(dx, dz), 0.0) - corner
    over = abs(y) - h
    of, oy = max(flat, 0.0), max(over, 0.0)
    return math.sqrt(of * of + oy * oy) + min(max(flat, over), 0.0)


@njit(cache=True, inline="always")
def cone(radius: float, y: float, low: float, high: float, h: float) -> float:
    """Round cone (two spheres and their hull): radius `low` at y = -h, `high` at y = +h."""
    slope = (low - high) / (2.0 * h)
    side = math.sqrt(max(1.0 - slope * slope, 0.0))
    up = y + h
    k = -slope * radius + side * up
    if k < 0.0:
        d = math.sqrt(radius * radius + up * up) - low
    elif k > side * 2.0 * h:
        d = math.sqrt(radius * radius + (y - h) * (y - h)) - high
    else:
        d = radius * side + up * slope - low
    return d


@njit(cache=True, inline="always")
def link(x: float, y: float, z: float, half: float, ring: float, tube: float) -> float:
    """Torus of the x-y plane, pulled apart by `half` along y on either side."""
    stretched = max(abs(y) - half, 0.0)
    around = math.sqrt(x * x + stretched * stretched) - ring
    return math.sqrt(around * around + z * z) - tube


def profile(knots: np.ndarray) -> np.ndarray:
    """Radii [PIECES + 1] of a lathe at even levels from below: a Catmull-Rom curve through its knots [KNOTS]."""
    node = np.arange(PIECES + 1)
    knot = np.minimum(node // STEPS, KNOTS - 2)
    t = (node - knot * STEPS) / STEPS
    a, b, c, d = (knots[np.clip(knot + shift, 0, KNOTS - 1)] for shift in (-1, 0, 1, 2))
    slope, bend, twist = c - a, 2.0 * a - 5.0 * b + 4.0 * c - d, 3.0 * (b - c) + d - a
    return np.maximum(b + 0.5 * t * (slope + t * (bend + t * twist)), 0.0)


@njit(cache=True)
def lathe(radius: float, y: float, h: float, radii: np.ndarray) -> float:
    """Body of revolution of half height h, straight between the radii at its PIECES + 1 levels."""
    step = 2.0 * h / PIECES
    first = min(max(int((y + h) / step), 0), PIECES - 1)
    low, high, bottom = radii[first], radii[first + 1], first * step - h
    inside = abs(y) < h and radius < low + (high - low) * (y - bottom) / step
    gap, beyond = abs(y) - h, max(radius - (radii[0] if y < 0.0 else radii[PIECES]), 0.0)
    best = min(gap * gap + beyond * beyond, _to_piece(radius, y - bottom, low, high, step))
    piece = first + 1
    while piece < PIECES:
        up = piece * step - h - y
        if up > 0.0 and up * up >= best:
            break
        best = min(best, _to_piece(radius, -up, radii[piece], radii[piece + 1], step))
        piece += 1
    piece = first - 1
    while piece >= 0:
        up = (piece + 1) * step - h - y
        if up < 0.0 and up * up >= best:
            break
        best = min(best, _to_piece(radius, step - up, radii[piece], radii[piece + 1], step))
        piece -= 1
    return -math.sqrt(best) if inside else math.sqrt(best)


@njit(cache=True, inline="always")
def _to_piece(x: float, y: float, low: float, high: float, step: float) -> float:
    """Squared distance to the segment from (low, 0) to (high, step)."""
    ax, kx = x - low, high - low
    t = min(max((ax * kx + y * step) / (kx * kx + step * step), 0.0), 1.0)
    bx, by = ax - kx * t, y - step * t
    return bx * bx + by * by


@njit(cache=True)
def ellipsoid(x: float, y: float, z: float, a: float, b: float, c: float) -> float:
    """Ellipsoid of half axes (a, b, c)."""
    best = max(abs(x) - a, abs(y) - b, abs(z) - c)
    qx, qy, qz = x, y, z
    for _ in range(REFINEMENTS):
        nx, ny, nz = qx / (a * a), qy / (b * b), qz / (c * c)
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        if length < 1e-9:
            break
        nx, ny, nz = nx / length, ny / length, nz / length
        support = math.sqrt((a * nx) ** 2 + (b * ny) ** 2 + (c * nz) ** 2)
        d = nx * x + ny * y + nz * z - support
        gain, best = d - best, max(best, d)
        if gain < CONVERGED:
            break
        qx, qy, qz = x - d * nx, y - d * ny, z - d * nz
    return best


@njit(cache=True)
def power(x: float, exponent: float) -> float:
    """x ** exponent for x >= 0, without `pow` for the exponents that superquadrics of 4/3, 2 and 4 meet."""
    if exponent == 2.0:
        return x * x
    if exponent == 4.0:
        return x * x * x * x
    if exponent == 3.0:
        return x * x * x
    if exponent == 1.0:
        return x
    if exponent == 0.5:
        return math.sqrt(x)
    return _rare_power(x, exponent)


@njit(cache=True)
def _rare_power(x: float, exponent: float) -> float:
    if abs(exponent - 0.25) < 1e-12:
        d = math.sqrt(math.sqrt(x))
    elif abs(exponent - 0.75) < 1e-12:
        d = math.sqrt(x) * math.sqrt(math.sqrt(x))
    elif abs(exponent - 1.0 / 3.0) < 1e-12:
        d = np.cbrt(x)
    elif abs(exponent - 4.0 / 3.0) < 1e-12:
        d = x * np.cbrt(x)
    elif abs(exponent - 1.5) < 1e-12:
        d = x * math.sqrt(x)
    elif abs(exponent - 2.0 / 3.0) < 1e-12:
        d = np.cbrt(x) * np.cbrt(x)
    else:
        d = x**exponent
    return d


@njit(cache=True)
def superquadric(x: float, y: float, z: float, sizes: np.ndarray) -> float:
    """Convex superquadric (|x/a|^p + |z/c|^p)^(q/p) + |y/b|^q = 1; `sizes` = (a, b, c, p, q), p, q > 1."""
    a, b, c, p, q = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    dual_p, dual_q = p / (p - 1.0), q / (q - 1.0)
    best = max(abs(x) - a, abs(y) - b, abs(z) - c)
    qx, qy, qz = x, y, z
    for _ in range(REFINEMENTS):
        u, v, w = abs(qx) / a, abs(qy) / b, abs(qz) / c
        flat = power(power(u, p) + power(w, p), 1.0 / p)
        if flat + v < 1e-9:
            break
        # Gradient of the q-norm of (flat, v), up to a positive factor.
        gf = power(flat, q - 1.0)
        gy = power(v, q - 1.0) / b
        gx = gf * power(u / flat, p - 1.0) / a if flat > 0.0 else 0.0
        gz = gf * power(w / flat, p - 1.0) / c if flat > 0.0 else 0.0
        length = math.sqrt(gx * gx + gy * gy + gz * gz)
        if length < 1e-12:
            break
        nx, ny, nz = gx / length, gy / length, gz / length
        ring = power(power(a * nx, dual_p) + power(c * nz, dual_p), 1.0 / dual_p)
        support = power(power(ring, dual_q) + power(b * ny, dual_q), 1.0 / dual_q)
        nx, ny, nz = math.copysign(nx, qx), math.copysign(ny, qy), math.copysign(nz, qz)
        d = nx * x + ny * y + nz * z - support
        gain, best = d - best, max(best, d)
        if gain < CONVERGED:
            break
        qx, qy, qz = x - d * nx, y - d * ny, z - d * nz
    return best


@njit(cache=True)
def distance(row: np.ndarray, px: float, py: float, pz: float) -> float:
    """Signed distance of a point in shape space to the primitive of one row."""
    dx, dy, dz = px - row[12], py - row[13], pz - row[14]
    x = row[3] * dx + row[4] * dy + row[5] * dz
    y = row[6] * dx + row[7] * dy + row[8] * dz
    z = row[9] * dx + row[10] * dy + row[11] * dz
    kind = int(row[KIND])
    s = row[SIZES:ROUNDING]
    if kind == BOX:
        d = box(x, y, z, s[0], s[1], s[2])
    elif kind == TAPER:
        d = taper(math.sqrt(x * x + z * z), y, s[0], s[1], s[2])
    elif kind == PRISM:
        d = prism(x, y, z, s[0], s[1], s[2], s[3])
    elif kind == SLAB:
        d = slab(x, y, z, s[0], s[1], s[2], s[3])
    elif kind == CONE:
        d = cone(math.sqrt(x * x + z * z), y, s[0], s[1], s[2])
    elif kind == LINK:
        d = link(x, y, z, s[0], s[1], s[2])
    elif kind == ELLIPSOID:
        d = ellipsoid(x, y, z, s[0], s[1], s[2])
    elif kind == LATHE:
        d = lathe(math.sqrt(x * x + z * z), y, s[KNOTS], row[PROFILE:ROW])
    else:
        d = superquadric(x, y, z, s)
    return d - row[ROUNDING]


def half_extents(row: np.ndarray) -> np.ndarray:
    """Half extents [3] of the box around a row's primitive: its support in the axes' directions."""
    normals = row[ROTATION:ORIGIN].reshape(3, 3)  # row i: the primitive's axis i seen from shape space
    return np.array([_support(row, normals[:, axis]) for axis in range(3)]) + row[ROUNDING]


def _support(row: np.ndarray, normal: np.ndarray) -> float:
    x, y, z = (float(v) for v in np.abs(normal))
    s = [float(v) for v in row[SIZES:ROUNDING]]
    flat = math.hypot(x, z)
    kind = int(row[KIND])
    if kind in (BOX, ELLIPSOID):
        terms = (s[0] * x, s[1] * y, s[2] * z)
        reach = sum(terms) if kind == BOX else math.sqrt(sum(t * t for t in terms))
    elif kind == TAPER:
        reach = max(flat * s[0] - s[2] * normal[1], flat * s[1] + s[2] * normal[1])
    elif kind == PRISM:
        reach = max(x * s[0] - s[2] * normal[1], x * s[1] + s[2] * normal[1]) + z * s[3]
    elif kind == SLAB:
        reach = (s[0] - s[3]) * x + (s[2] - s[3]) * z + s[3] * flat + s[1] * y
    elif kind == CONE:
        reach = max(s[0] - s[2] * normal[1], s[1] + s[2] * normal[1])
    elif kind == LINK:
        reach = y * s[0] + math.hypot(x, y) * s[1] + s[2]
    elif kind == LATHE:
        levels = np.linspace(-s[KNOTS], s[KNOTS], PIECES + 1)
        reach = float((flat * row[PROFILE:ROW] + normal[1] * levels).max())
    else:
        dual_p, dual_q = s[3] / (s[3] - 1.0), s[4] / (s[4] - 1.0)
        ring = ((s[0] * x) ** dual_p + (s[2] * z) ** dual_p) ** (1.0 / dual_p)
        reach = (ring**dual_q + (s[1] * y) ** dual_q) ** (1.0 / dual_q)
    return float(reach)
