"""What every format is read into: triangles, surfaces, parts and skin of one file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.types import Animation, Material, Skeleton


@dataclass(frozen=True)
class Scene:
    """Triangles of one file, transforms applied, y up, in the file's own units.

    Attributes:
        vertices: float64 [V, 3], finite where a face uses them.
        faces: int64 [F, 3], every index in range, counter-clockwise from outside as the file has it.
        corner_colors: uint8 [F, 3, 3], sRGB: factor, vertex colour and texture of each corner.
        uv: float32 [F, 3, 2] or None. (0, 0) is the UPPER LEFT of an image, v grows downwards (as in glTF), so a
            texel's row is v * height; textures repeat. Zero where a part has none.
        material: int32 [F], place in `materials`, -1 where there is none.
        materials: the file's surfaces.
        images: encoded PNG, JPEG or WebP, as found.
        part: int32 [F], place in `part_names`.
        part_names: nodes, groups or objects of the file, in its order; names may repeat.
        skeleton: joints, None without a skin.
        joints: int32 [V, K] places in the skeleton, None without a skin.
        weights: float32 [V, K], rows sum to 1, or are 0 for vertices that no joint moves; None without a skin.
        unit_m: metres a unit, None where the format does not say.
        up_axis: "x", "y" or "z": what was up in the file, before it was turned to y.
        animations: clips of the skeleton, where they were asked for.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_colors: np.ndarray
    uv: np.ndarray | None
    material: np.ndarray
    materials: tuple[Material, ...]
    images: tuple[bytes, ...]
    part: np.ndarray
    part_names: tuple[str, ...]
    skeleton: Skeleton | None
    joints: np.ndarray | None
    weights: np.ndarray | None
    unit_m: float | None
    up_axis: str
    animations: tuple[Animation, ...] = ()
