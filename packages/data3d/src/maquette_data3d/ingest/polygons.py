"""Polygons as triangles."""

from __future__ import annotations

import numpy as np


def fans(sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of triangles int64 [F, 3] into the flat list of all corners, and the polygon int64 [F] of each.

    Args:
        sides: int64 [P], corners of each polygon; those with fewer than three give no triangle.
    """
    starts, each = np.cumsum(sides) - sides, np.maximum(sides - 2, 0)
    source = np.repeat(np.arange(len(sides)), each)
    step = np.arange(len(source)) - np.repeat(np.cumsum(each) - each, each)
    first = starts[source]
    return np.stack([first, first + step + 1, first + step + 2], 1), source
