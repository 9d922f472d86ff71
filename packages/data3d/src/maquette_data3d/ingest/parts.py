"""Placed pieces of a file as the readers find them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maquette.types import Animation, Material, Skeleton
from maquette_data3d.ingest.pictures import Pictures


@dataclass
class Part:
    """One placed piece in the file's own axes.

    Attributes:
        name: of its node, group or object.
        number: pieces of one number are one part of the scene.
        vertices: [V, 3].
        faces: [F, 3].
        uv: [F, 3, 2] with v downwards, or None.
        material: one place in the file's materials, or one a face int [F]; -1 for none.
        tint: [F, 3, 3] linear light that multiplies the material's color, or None.
        paints: `tint` stands in for the material's own factor instead of multiplying it.
        joints, weights: [V, K] each, or None.
    """

    name: str
    number: int
    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None
    material: int | np.ndarray = -1
    tint: np.ndarray | None = None
    paints: bool = False
    joints: np.ndarray | None = None
    weights: np.ndarray | None = None


@dataclass
class Found:
    """What a reader hands over: pieces in the order of the file, and what they share."""

    parts: list[Part]
    materials: Sequence[Material] = ()
    pictures: Pictures | None = None
    skeleton: Skeleton | None = None
    unit_m: float | None = None
    up_axis: str = "y"
    animations: tuple[Animation, ...] = ()
