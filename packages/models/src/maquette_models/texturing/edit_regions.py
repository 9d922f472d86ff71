"""Which points of a surface a texture edit may change: of a part, a box, a sphere, a place in words, or a mask."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_kernels.ops import MeshQuery
from maquette_models.editing.regions import box_of, box_of_words, numbers, pieces
from maquette_models.texturing.edit_words import named_parts

KINDS = ("mask", "box", "sphere", "region", "part")
Region = Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.bool_]]
"""region(face [P], weights of its corners [P,3]) -> which of the points lie in it, bool [P]"""


@dataclass(frozen=True)
class Area:
    """What may change: points of the surface in a region, in texels that are `allowed`, bool [H,W] over the texture;
    None allows all."""

    region: Region
    allowed: NDArray[np.bool_] | None = None


def region_of(mesh: Mesh, options: Mapping[str, Any]) -> Region:
    """The region that options name.

    Args:
        mesh: in the unit cube.
        options: one of `mask` (a picture uint8 [H,W] or [H,W,C] over the texture, bright where it may change), `box`
            (low and high corner, six numbers), `sphere` (middle and radius, four numbers), `region` (words such as
            "upper half") and `part` (a part's name or several, or a point on or near a piece of the mesh). None: all
            of it.

    Raises:
        MaquetteError: several of them, or one that names nothing of the mesh.
    """
    given = [key for key in KINDS if key in options]
    if len(given) > 1:
        raise MaquetteError(f"a texture edit has one of {', '.join(KINDS)}; got {', '.join(given)}")
    if not given:
        return everywhere
    make = {"mask": by_mask, "box": by_box, "sphere": by_sphere, "region": by_words, "part": by_part}[given[0]]
    return make(mesh, options[given[0]])


def everywhere(face: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.bool_]:
    """All of the surface."""
    return np.ones(len(face), bool)


def bright_texels(picture: Any) -> NDArray[np.bool_]:
    """Where a mask is brighter than half and, where it has alpha, opaque: bool [H,W].

    Raises:
        MaquetteError: it is no picture.
    """
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or not pixels.size:
        raise MaquetteError(f"a mask must be a picture uint8 [H, W] or [H, W, C], got {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 2:
        return pixels > 127
    if pixels.shape[2] in (2, 4):
        return (pixels[..., :-1] > 127).any(axis=2) & (pixels[..., -1] > 127)
    return (pixels > 127).any(axis=2)


def by_mask(mesh: Mesh, picture: Any) -> Region:
    """Where a picture over the texture is bright."""
    bright = bright_texels(picture)
    if mesh.uv is None:
        raise MaquetteError("a mask needs a mesh with texture coordinates; unwrap it first, or give a part or a box")
    height, width = bright.shape
    corner_uv = mesh.uv.astype(np.float64)

    def inside(face: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.bool_]:
        place = np.einsum("pc,pci->pi", share, corner_uv[face])
        column, row = np.floor(place * (width, height) + 1e-6).astype(np.int64).T
        return bright[row % height, column % width]

    return inside


def by_box(mesh: Mesh, value: Any) -> Region:
    """Between two corners."""
    low, high = box_of(value)
    return _by_place(mesh, lambda place: ((place >= low) & (place <= high)).all(axis=1))


def by_sphere(mesh: Mesh, value: Any) -> Region:
    """Not farther from a middle than a radius."""
    x, y, z, radius = numbers(value, 4, "sphere")
    return _by_place(mesh, lambda place: np.linalg.norm(place - (x, y, z), axis=1) <= radius)


def by_words(mesh: Mesh, value: Any) -> Region:
    """A place such as "the upper half" or "left", of the mesh's own box."""
    return by_box(mesh, np.stack(box_of_words(str(value), mesh)))


def by_part(mesh: Mesh, value: Any) -> Region:
    """Parts by name or number, or the piece of the mesh that is nearest to a point "x,y,z"."""
    if isinstance(value, str) and re.fullmatch(r"[\s,\d.eE+-]+", value) and "," in value:
        value = numbers(value, 3, "part").tolist()
    if isinstance(value, str | int) and not isinstance(value, bool):
        return by_parts(mesh, parts_named(mesh, value))
    point = torch.tensor(np.asarray(numbers(value, 3, "part"))[None], dtype=torch.float32)
    query = MeshQuery(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces))
    piece = pieces(mesh)
    return _by_face(piece == piece[int(query.closest(point)[1])])


def by_parts(mesh: Mesh, parts: Sequence[int]) -> Region:
    """Parts by number."""
    if mesh.part is None:
        raise MaquetteError("the mesh's faces are not labelled by part; give a box, sphere, region or mask")
    return _by_face(np.isin(mesh.part, list(parts)))


def parts_named(mesh: Mesh, value: str | int) -> tuple[int, ...]:
    """Numbers of the parts that a text names, or the number itself.

    Raises:
        MaquetteError: the mesh has none such.
    """
    count = len(mesh.part_names)
    found = named_parts(re.findall(r"[a-z]+", value.lower()), mesh.part_names) if isinstance(value, str) else (value,)
    if not found or not all(0 <= part < count for part in found):
        has = ", ".join(dict.fromkeys(mesh.part_names)) or "no named parts"
        raise MaquetteError(f"the mesh has no part '{value}'; it has {has}")
    return found


def _by_face(chosen: NDArray[np.bool_]) -> Region:
    return lambda face, share: chosen[face]


def _by_place(mesh: Mesh, inside: Callable[[NDArray[np.float64]], NDArray[np.bool_]]) -> Region:
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    return lambda face, share: inside(np.einsum("pc,pci->pi", share, corners[face]))
