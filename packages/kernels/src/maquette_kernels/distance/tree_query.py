"""Asking a triangle tree: kernels over runs of points, eight boxes or eight triangles a step."""

# Compiled kernels take each of their arrays by itself.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numba import njit

from maquette_kernels.distance.tree_build import WIDTH

# Loops over lanes take their length from an array: one of a known length is unrolled and then not vectorised, and so is
# not one whose divisions may raise.
_SLIVER = 1e-13
STACK = 96  # seven children wait on each of at most eleven levels


@njit(cache=True, nogil=True)
def _part(value):
    """Spreads the lowest 20 bits so that two zeros follow each."""
    x = np.uint64(value)
    x = (x | (x << np.uint64(32))) & np.uint64(0x1F00000000FFFF)
    x = (x | (x << np.uint64(16))) & np.uint64(0x1F0000FF0000FF)
    x = (x | (x << np.uint64(8))) & np.uint64(0x100F00F00F00F00F)
    x = (x | (x << np.uint64(4))) & np.uint64(0x10C30C30C30C30C3)
    return (x | (x << np.uint64(2))) & np.uint64(0x1249249249249249)


@njit(cache=True, nogil=True)
def morton(points, low, side):
    """Morton codes uint64 [P] of points in a cube of 2^20 cells a side; what lies outside is moved to its border."""
    codes = np.empty(len(points), np.uint64)
    cells = 1 << 20
    for i in range(len(points)):
        code = np.uint64(0)
        for k in range(3):
            at = min(max((points[i, k] - low[k]) / side, 0.0), 1.0)
            code |= _part(min(np.int64(at * cells), cells - 1)) << np.uint64(k)
        codes[i] = code
    return codes


@njit(cache=True, nogil=True, error_model="numpy")
def to_boxes(boxes, node, x, y, z, out):
    """Squared distances from a point to a node's eight boxes."""
    for i in range(boxes.shape[2]):
        u = max(boxes[node, 0, i] - x, x - boxes[node, 3, i], 0.0)
        v = max(boxes[node, 1, i] - y, y - boxes[node, 4, i], 0.0)
        w = max(boxes[node, 2, i] - z, z - boxes[node, 5, i], 0.0)
        out[i] = u * u + v * v + w * w


@njit(cache=True, nogil=True, error_model="numpy")
def to_triangles(block, leaf, x, y, z, out):
    """Squared distances from a point to a leaf's eight triangles, without a branch."""
    for i in range(block.shape[2]):
        px, py, pz = x - block[leaf, 0, i], y - block[leaf, 1, i], z - block[leaf, 2, i]
        bx, by, bz = block[leaf, 3, i], block[leaf, 4, i], block[leaf, 5, i]
        cx, cy, cz = block[leaf, 6, i], block[leaf, 7, i], block[leaf, 8, i]
        t = min(max((px * bx + py * by + pz * bz) * block[leaf, 9, i], 0.0), 1.0)
        u, v, w = px - t * bx, py - t * by, pz - t * bz
        best = u * u + v * v + w * w
        t = min(max((px * cx + py * cy + pz * cz) * block[leaf, 10, i], 0.0), 1.0)
        u, v, w = px - t * cx, py - t * cy, pz - t * cz
        best = min(best, u * u + v * v + w * w)
        ex, ey, ez, qx, qy, qz = cx - bx, cy - by, cz - bz, px - bx, py - by, pz - bz
        t = min(max((qx * ex + qy * ey + qz * ez) * block[leaf, 11, i], 0.0), 1.0)
        u, v, w = qx - t * ex, qy - t * ey, qz - t * ez
        best = min(best, u * u + v * v + w * w)
        nx, ny, nz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        # Barycentric weights of the foot, times the squared normal.
        g = (py * cz - pz * cy) * nx + (pz * cx - px * cz) * ny + (px * cy - py * cx) * nz
        h = (by * pz - bz * py) * nx + (bz * px - bx * pz) * ny + (bx * py - by * px) * nz
        inside = (g > 0.0) & (h > 0.0) & (nx * nx + ny * ny + nz * nz - g - h > 0.0)
        away = px * nx + py * ny + pz * nz
        out[i] = away * away * block[leaf, 12, i] if inside else best


@njit(cache=True, nogil=True)
def _best_of_four(px, py, pz, ab, ac):
    """Weights of the nearest of four points of the triangle 0, ab, ac: one on each edge and the foot on the plane."""
    bb, cc, bc = (ab * ab).sum(), (ac * ac).sum(), (ab * ac).sum()
    d1, d2 = px * ab[0] + py * ab[1] + pz * ab[2], px * ac[0] + py * ac[1] + pz * ac[2]
    ee, area = bb + cc - 2.0 * bc, bb * cc - bc * bc
    k = min(max((d2 - d1 - bc + bb) / ee, 0.0), 1.0) if ee > 0.0 else 0.0
    shares = (
        (min(max(d1 / bb, 0.0), 1.0) if bb > 0.0 else 0.0, 0.0),
        (0.0, min(max(d2 / cc, 0.0), 1.0) if cc > 0.0 else 0.0),
        (1.0 - k, k),
        ((cc * d1 - bc * d2) / area if area > 0.0 else -1.0, (bb * d2 - bc * d1) / area if area > 0.0 else -1.0),
    )
    least, r, s, t = np.inf, 1.0, 0.0, 0.0
    for u, v in shares:
        x, y, z = px - u * ab[0] - v * ac[0], py - u * ab[1] - v * ac[1], pz - u * ab[2] - v * ac[2]
        squared = x * x + y * y + z * z
        if squared < least and min(u, v) >= 0.0 and u + v <= 1.0:
            least, r, s, t = squared, max(1.0 - u - v, 0.0), u, v
    return r, s, t


@njit(cache=True, nogil=True)
def _by_region(d1, d2, bb, cc, bc):
    """Weights by the region that a point lies in (Ericson 2005, Real-Time Collision Detection, 5.1.5)."""
    d3, d4, d5, d6 = d1 - bb, d2 - bc, d1 - bc, d2 - cc
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    r, s, t = 0.0, 0.0, 0.0
    if d1 <= 0 and d2 <= 0:
        r = 1.0
    elif d3 >= 0 and d4 <= d3:
        s = 1.0
    elif d6 >= 0 and d5 <= d6:
        t = 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        s = d1 / (d1 - d3)
        r = 1.0 - s
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        t = d2 / (d2 - d6)
        r = 1.0 - t
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        s = 1.0 - t
    else:
        total = va + vb + vc
        r, s, t = va / total, vb / total, vc / total
    return r, s, t


@njit(cache=True, nogil=True)
def weights_of(triangle, x, y, z):
    """Barycentric weights of the point of a triangle [3, 3] nearest to a point."""
    a, ab, ac = triangle[0], triangle[1] - triangle[0], triangle[2] - triangle[0]
    p = np.array([x, y, z]) - a
    d1, d2 = (ab * p).sum(), (ac * p).sum()
    bb, cc, bc = (ab * ab).sum(), (ac * ac).sum(), (ab * ac).sum()
    # Where rounding may outweigh the area, regions are not to be trusted.
    longest = max(bb, cc)
    if bb * cc - bc * bc <= _SLIVER * longest * max(longest, (p * p).sum()):
        return _best_of_four(p[0], p[1], p[2], ab, ac)
    return _by_region(d1, d2, bb, cc, bc)


@njit(cache=True, nogil=True)
def _foot(triangle, x, y, z, out):
    """The point of a triangle [3, 3] nearest to a point."""
    _, s, t = weights_of(triangle, x, y, z)
    for k in range(3):
        out[k] = triangle[0, k] + s * (triangle[1, k] - triangle[0, k]) + t * (triangle[2, k] - triangle[0, k])


@njit(cache=True, nogil=True)
def search(boxes, child, block, x, y, z, best, nodes, bounds, lane):
    """Leaf place (leaf * 8 + lane, -1 for none) of a triangle nearer than the squared distance `best`."""
    found, top = -1, 1
    nodes[0], bounds[0] = 0, 0.0
    while top > 0:
        top -= 1
        if bounds[top] >= best:
            continue
        node = nodes[top]
        if node < 0:
            leaf = -1 - node
            to_triangles(block, leaf, x, y, z, lane)
            for i in range(WIDTH):
                if lane[i] < best:
                    best, found = lane[i], leaf * WIDTH + i
            continue
        to_boxes(boxes, node, x, y, z, lane)
        first, bottom = child[node], top
        for i in range(WIDTH):
            if lane[i] < best:
                # Inserted so that the nearest child lies on top.
                j = top
                while j > bottom and bounds[j - 1] < lane[i]:
                    bounds[j], nodes[j] = bounds[j - 1], nodes[j - 1]
                    j -= 1
                bounds[j], nodes[j] = lane[i], first + i if first >= 0 else first - i
                top += 1
    return found


@njit(cache=True, nogil=True)
def closest(boxes, child, block, ids, corners, points, order, start, stop, distance, face, nearest):
    """Fills distance, face and nearest for points order[start:stop]."""
    nodes, bounds, lane = np.empty(STACK, np.int64), np.empty(STACK), np.empty(WIDTH)
    previous, foot = -1, np.empty(3)
    for n in range(start, stop):
        i = order[n]
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        best = np.inf
        if previous >= 0:
            _foot(corners[previous], x, y, z, foot)
            best = ((x - foot[0]) ** 2 + (y - foot[1]) ** 2 + (z - foot[2]) ** 2) * (1 + 1e-12)
        place = search(boxes, child, block, x, y, z, best, nodes, bounds, lane)
        if place >= 0:
            previous = ids[place // WIDTH, place % WIDTH]
            _foot(corners[previous], x, y, z, foot)
        nearest[i], face[i] = foot, previous
        distance[i] = np.sqrt((x - foot[0]) ** 2 + (y - foot[1]) ** 2 + (z - foot[2]) ** 2)


@njit(cache=True, nogil=True, error_model="numpy")
def _angles(block, leaf, x, y, z, real, imaginary):
    """Half solid angles of a leaf's triangles as complex numbers, whose argument they are."""
    for i in range(block.shape[2]):
        ax, ay, az = block[leaf, 0, i] - x, block[leaf, 1, i] - y, block[leaf, 2, i] - z
        ux, uy, uz = block[leaf, 3, i], block[leaf, 4, i], block[leaf, 5, i]
        vx, vy, vz = block[leaf, 6, i], block[leaf, 7, i], block[leaf, 8, i]
        bx, by, bz, cx, cy, cz = ax + ux, ay + uy, az + uz, ax + vx, ay + vy, az + vz
        la = np.sqrt(ax * ax + ay * ay + az * az)
        lb = np.sqrt(bx * bx + by * by + bz * bz)
        lc = np.sqrt(cx * cx + cy * cy + cz * cz)
        ab, ac, bc = ax * bx + ay * by + az * bz, ax * cx + ay * cy + az * cz, bx * cx + by * cy + bz * cz
        volume = ax * (uy * vz - uz * vy) + ay * (uz * vx - ux * vz) + az * (ux * vy - uy * vx)
        whole = la * lb * lc
        scale = 1.0 / whole if whole > 0.0 else 0.0
        real[i] = (whole + ab * lc + bc * la + ac * lb) * scale
        imaginary[i] = volume * scale


@njit(cache=True, nogil=True)
def _leaf(block, leaf, x, y, z, real, imaginary):
    """Sum of the solid angles of a leaf, over 4 pi; -x, -y, -z of the usual sign make inside 1."""
    _angles(block, leaf, x, y, z, real, imaginary)
    # Arguments add up when numbers are multiplied; a turn past the negative axis is counted.
    a, b, turns = 1.0, 0.0, 0.0
    for i in range(WIDTH):
        u, v = real[i], imaginary[i]
        if v == 0.0:
            continue
        c, d = a * u - b * v, a * v + b * u
        if b >= 0.0 and v >= 0.0 and d < 0.0:
            turns += 1.0
        elif b < 0.0 and v < 0.0 and d >= 0.0:
            turns -= 1.0
        a, b = c, d
    return np.arctan2(b, a) / (2 * np.pi) + turns


@njit(cache=True, nogil=True, error_model="numpy")
def _expand(moments, node, x, y, z, accuracy, far, squared):
    """Winding numbers of a node's children from afar, and squared distances less those from which they are far."""
    for i in range(moments.shape[2]):
        u, v, w = moments[node, 0, i] - x, moments[node, 1, i] - y, moments[node, 2, i] - z
        r2 = u * u + v * v + w * w
        squared[i] = r2 - moments[node, 12, i] * accuracy
        inverse = 1.0 / max(r2, 1e-300)
        cube = inverse * np.sqrt(inverse) * (0.25 / np.pi)
        dipole = moments[node, 3, i] * u + moments[node, 4, i] * v + moments[node, 5, i] * w
        xx, yy, zz = moments[node, 6, i], moments[node, 7, i], moments[node, 8, i]
        mixed = moments[node, 9, i] * u * v + moments[node, 10, i] * u * w + moments[node, 11, i] * v * w
        quadratic = xx * u * u + yy * v * v + zz * w * w + 2.0 * mixed
        far[i] = cube * (dipole + xx + yy + zz - 3.0 * quadratic * inverse)


@njit(cache=True, nogil=True)
def winding(moments, child, block, points, order, start, stop, accuracy, number):
    """Fills winding numbers for points order[start:stop]; a node is far from `accuracy` times its radius on."""
    nodes, far, squared = np.empty(STACK, np.int64), np.empty(WIDTH), np.empty(WIDTH)
    for n in range(start, stop):
        i = order[n]
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        total, top = 0.0, 1
        nodes[0] = 0
        while top > 0:
            top -= 1
            node = nodes[top]
            if node < 0:
                total += _leaf(block, -1 - node, x, y, z, far, squared)
                continue
            _expand(moments, node, x, y, z, accuracy * accuracy, far, squared)
            first = child[node]
            for j in range(WIDTH):
                if squared[j] > 0.0:
                    total += far[j]
                elif moments[node, 12, j] > 0.0:
                    nodes[top] = first + j if first >= 0 else first - j
                    top += 1
        number[i] = total
