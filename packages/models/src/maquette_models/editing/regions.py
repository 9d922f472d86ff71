"""Which part of the unit cube an edit may change: a box, a piece of the mesh, or words such as "the upper half"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_kernels.ops import MeshQuery

AXES = {  # word -> axis and whether it is the axis's upper end; y is up, +z the front, +x the shape's own left
    "top": (1, True), "upper": (1, True), "bottom": (1, False), "lower": (1, False),
    "front": (2, True), "back": (2, False), "rear": (2, False), "left": (0, True), "right": (0, False),
}  # fmt: skip
SHARES = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4}
USUAL_SHARE = "third"
WELD = 1e-5  # vertices nearer than that are one, for telling pieces apart


def region_mask(mesh: Mesh, options: dict[str, Any], resolution: int, margin: float) -> NDArray[np.bool_]:
    """Cells [R,R,R] of the unit cube that may change.

    Args:
        mesh: that is edited.
        options: one of `box` ((low, high), three numbers each), `part` (a point on or near a piece of the mesh), and
            `region` (words: top, bottom, front, back, left, right; half, third, quarter or "40 %").
        resolution: cells a side.
        margin: by how much the cells of a `part` reach beyond its box, in the cube's units.

    Raises:
        MaquetteError: none or several of them, a box without volume, words that say nothing, a mesh of one piece.
    """
    given = [key for key in ("box", "part", "region") if key in options]
    if len(given) != 1:
        raise MaquetteError(f"an edit needs one of box, part and region; got {', '.join(given) or 'none'}")
    if given == ["box"]:
        low, high = box_of(options["box"])
        return inside_box(low, high, resolution)
    if given == ["region"]:
        return inside_box(*box_of_words(str(options["region"]), mesh), resolution)
    return around_piece(mesh, numbers(options["part"], 3, "part"), resolution, margin)


def box_of(value: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of a box that a request names."""
    flat = np.asarray(value, np.float64).reshape(-1) if not isinstance(value, str) else value
    low, high = np.split(numbers(flat, 6, "box"), 2)
    if not (low < high).all():
        raise MaquetteError(
            f"box {low.tolist()} {high.tolist()}: its low corner must lie below the high one on each axis"
        )
    return low, high


def numbers(value: Any, count: int, name: str) -> NDArray[np.float64]:
    """So many finite numbers of a sequence, or of a text with commas or blanks."""
    parts: Sequence[Any] = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else list(value)
    try:
        found = np.array([float(part) for part in parts])
    except (TypeError, ValueError):
        found = np.empty(0)
    if len(found) != count or not np.isfinite(found).all():
        raise MaquetteError(f"{name} must be {count} numbers, e.g. {', '.join(['0.1'] * count)}; got {value!r}")
    return found


def box_of_words(text: str, mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The part of the mesh's own box that words name; several words cut several axes ("the upper back, 40 %").

    Outwards the box goes on to the end of the cube, so that what is made there may be larger than what was.
    """
    words = re.findall(r"[a-z]+", text.lower())
    share = share_of_words(text)
    ends = [AXES[word] for word in words if word in AXES]
    if not ends:
        raise MaquetteError(f"region '{text}' names no place; use {', '.join(AXES)}, and half, third, quarter or 40 %")
    low, high = np.full(3, -0.5), np.full(3, 0.5)
    least, most = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    for axis, upper in ends:
        if upper:
            low[axis] = most[axis] - share * (most[axis] - least[axis])
        else:
            high[axis] = least[axis] + share * (most[axis] - least[axis])
    return low, high


def share_of_words(text: str) -> float:
    """The share of an axis that words name: half, third (also where nothing is said), quarter, or so many per cent."""
    percent = re.search(r"(\d+(?:\.\d+)?)\s*%", text)
    if percent:
        return min(float(percent.group(1)) / 100, 1.0)
    return SHARES[next((word for word in re.findall(r"[a-z]+", text.lower()) if word in SHARES), USUAL_SHARE)]


def inside_box(low: NDArray[np.float64], high: NDArray[np.float64], resolution: int) -> NDArray[np.bool_]:
    """Cells [R,R,R] whose centre is in a box."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    x, y, z = ((axis >= a) & (axis <= b) for a, b in zip(low, high, strict=True))
    mask = x[:, None, None] & y[None, :, None] & z[None, None, :]
    if not mask.any():
        raise MaquetteError(
            f"the region {low.round(3).tolist()} to {high.round(3).tolist()} lies outside the unit cube"
        )
    return mask


def around_piece(mesh: Mesh, point: NDArray[np.float64], resolution: int, margin: float) -> NDArray[np.bool_]:
    """Cells [R,R,R] round the piece of a mesh that is nearest to a point, and nearer to it than to the others."""
    query = MeshQuery(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces))
    piece = pieces(mesh)
    if piece.max() == 0:
        raise MaquetteError("the mesh is one piece, so that 'part' is all of it; give a box or a region")
    chosen = piece[int(query.closest(torch.tensor(point[None], dtype=torch.float32))[1])]
    own = mesh.vertices[mesh.faces[piece == chosen]].reshape(-1, 3)
    mask = inside_box(own.min(axis=0) - margin, own.max(axis=0) + margin, resolution)
    centres = (np.argwhere(mask) + 0.5) / resolution - 0.5
    nearest = query.closest(torch.from_numpy(centres.astype(np.float32)))[1].numpy()
    mask[mask] = piece[nearest] == chosen
    return mask


def pieces(mesh: Mesh) -> NDArray[np.int64]:
    """The number of the connected piece of each face [F], vertices at one place being one."""
    _, vertex = np.unique(np.round(mesh.vertices / WELD).astype(np.int64), axis=0, return_inverse=True)
    corners = vertex.reshape(-1)[mesh.faces]
    ends = (corners[:, [0, 1]].ravel(), corners[:, [1, 2]].ravel())
    count = int(corners.max()) + 1
    _, label = connected_components(coo_array((np.ones(len(ends[0])), ends), (count, count)), directed=False)
    _, piece = np.unique(label[corners[:, 0]], return_inverse=True)
    return piece.astype(np.int64)
