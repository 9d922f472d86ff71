"""Filters over what meshopt unpacks: directions, rotations and floats (EXT_meshopt_compression, appendix C)."""

from __future__ import annotations

import numpy as np

from maquette.errors import MaquetteError


def unfiltered(out: np.ndarray, filtered: str) -> np.ndarray:
    """Rows uint8 [N, stride] with a filter undone: NONE, OCTAHEDRAL, QUATERNION or EXPONENTIAL.

    Raises:
        MaquetteError: "unsupported: ..." for any other, or for a stride that it does not go with.
    """
    stride = out.shape[1]
    if filtered == "NONE":
        return out
    if filtered == "OCTAHEDRAL" and stride in (4, 8):
        return _octahedral(out.view("<i1" if stride == 4 else "<i2"))
    if filtered == "QUATERNION" and stride == 8:
        return _quaternion(out.view("<i2"))
    if filtered == "EXPONENTIAL":
        words = out.view("<i4")
        mantissa = (words << 8) >> 8
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(mantissa.astype(np.float64), words >> 24).astype("<f4")
    raise MaquetteError(f"unsupported: the filter {filtered[:20]!r} on {stride} bytes")


def _octahedral(rows: np.ndarray) -> np.ndarray:
    one = np.maximum(rows[:, 2].astype(np.float64), 1.0)
    x, y = rows[:, 0] / one, rows[:, 1] / one
    z = 1.0 - np.abs(x) - np.abs(y)
    fold = np.minimum(z, 0.0)
    # The lower half of the octahedron is folded over its rim: t <= 0 moves x and y back towards 0.
    vector = np.stack([x + np.where(x >= 0, fold, -fold), y + np.where(y >= 0, fold, -fold), z], 1)
    length = np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12)
    whole = rows.copy()
    whole[:, :3] = np.round(vector / length * np.iinfo(rows.dtype).max)
    return whole


def _quaternion(rows: np.ndarray) -> np.ndarray:
    one = np.maximum((rows[:, 3:] | 3).astype(np.float64), 1.0)
    small = rows[:, :3] / one / np.sqrt(2.0)
    large = np.sqrt(np.maximum(1.0 - (small**2).sum(1), 0.0))
    place = rows[:, 3].astype(np.int64) & 3
    each = np.arange(len(rows))
    whole = np.empty_like(rows)
    whole[each, place] = np.round(large * 32767)
    for slot in range(3):
        whole[each, (place + 1 + slot) % 4] = np.clip(np.round(small[:, slot] * 32767), -32767, 32767)
    return whole
