"""How each stored field becomes part of a batch: its window of points, its mirror image, its type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from maquette.errors import MaquetteError
from maquette_data3d.shards.format import Field

POINT_GROUPS = ("surface", "sharp", "near", "volume")
"""Fields named after a group, `normals` among the surface's, are read in one common window."""
_NEGATED = {"surface", "normals", "sharp", "sharp_normals", "near", "volume", "joints"}
_FLIPPED = {"tsdf", "color"}
_UNCHANGED = {
    *("surface_color", "surface_part", "surface_joints", "surface_weights"),
    *("near_sdf", "volume_sdf", "joint_parents"),
}
_FRACTIONS = {"dual_points"}


@dataclass(frozen=True)
class Layout:
    """What to do with one field.

    Attributes:
        group: the point group whose window it is read in, or "".
        shape: of one stored sample; of one element where ragged.
        grid: the side of a stored grid, 0 for other fields.
        mirror: "negate" the x of vectors, "flip" the x axis of a grid, or "" for what a mirror leaves alone.
        kept, delivered: the types of stored values and of the batch.
        scale: what stored values are divided by: 255 for 8-bit colours and fractions.
    """

    name: str
    stored: np.dtype
    shape: tuple[int, ...]
    ragged: bool
    group: str
    grid: int
    mirror: str
    kept: torch.dtype
    delivered: torch.dtype
    scale: float


def layout(name: str, about: Field, *, as_stored: bool, mirrored: bool) -> Layout:
    """The layout of a stored field.

    Args:
        as_stored: deliver the stored type.
        mirrored: whether samples will be mirrored.

    Raises:
        MaquetteError: the field is to be mirrored, and how is not known.
    """
    stored, shape, ragged = np.dtype(about.dtype), tuple(about.shape), about.ragged
    if mirrored and name not in _NEGATED | _FLIPPED | _UNCHANGED:
        raise MaquetteError(f"dataset 'shards': mirror cannot turn the field '{name}'; leave one of them out")
    parts = ("surface" if name == "normals" else name).split("_")
    group = parts[0] if parts[0] in POINT_GROUPS and not ragged else ""
    cube = not ragged and len(shape) == 4 and len(set(shape[1:])) == 1
    fraction = stored == np.uint8 and (bool({"color", "colors", "rgb"} & set(parts)) or name in _FRACTIONS)
    real = np.issubdtype(stored, np.floating) or fraction
    kind = torch.float32 if real and not as_stored else torch_type(stored)
    return Layout(
        name,
        stored,
        shape,
        ragged,
        group,
        shape[-1] if cube else 0,
        "negate" if name in _NEGATED else "flip" if name in _FLIPPED else "",
        torch_type(stored),
        kind,
        255.0 if fraction and not as_stored else 1.0,
    )


def torch_type(dtype: np.dtype) -> torch.dtype:
    """The tensor type that holds an array type."""
    return torch.from_numpy(np.empty(0, dtype)).dtype
