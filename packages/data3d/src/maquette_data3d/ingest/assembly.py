"""How the placed pieces of a file become one scene."""

from __future__ import annotations

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Skeleton
from maquette_data3d.ingest.colors import corner_colors
from maquette_data3d.ingest.parts import Found, Part
from maquette_data3d.ingest.pictures import Pictures
from maquette_data3d.ingest.scene import Scene

_TURNS = {
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}


def assemble(found: Found, up_axis: str) -> Scene:
    """One scene of all pieces, with `up_axis` turned to y.

    Raises:
        MaquetteError: "reason: detail" for indices out of range and coordinates that are no numbers.
    """
    parts = [_compact(part) for part in found.parts if len(part.faces)]
    if not parts:
        raise MaquetteError("empty: it holds no triangles")
    pictures = found.pictures or Pictures()
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    numbers = list(dict.fromkeys(part.number for part in parts))
    names = {part.number: part.name for part in reversed(parts)}
    place = {number: index for index, number in enumerate(numbers)}
    joints, weights = _skin(parts) if found.skeleton is not None else (None, None)
    return Scene(
        vertices=np.concatenate([part.vertices for part in parts]) @ _TURNS[up_axis].T,
        faces=np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)]),
        corner_colors=np.concatenate([corner_colors(part, found.materials, pictures) for part in parts]),
        uv=_uv(parts),
        material=np.concatenate([material_of(part) for part in parts]),
        materials=tuple(found.materials),
        images=pictures.encoded,
        part=np.concatenate([np.full(len(part.faces), place[part.number], np.int32) for part in parts]),
        part_names=tuple(names[number] for number in numbers),
        skeleton=_turned(found.skeleton, up_axis) if joints is not None else None,
        joints=joints,
        weights=weights,
        unit_m=found.unit_m,
        up_axis=up_axis,
        animations=found.animations if joints is not None else (),
    )


def material_of(part: Part) -> np.ndarray:
    """int32 [F], the material of each face."""
    return np.broadcast_to(np.asarray(part.material, np.int32), len(part.faces)).astype(np.int32)


def _compact(part: Part) -> Part:
    """The piece with checked types, and without vertices that only its neighbours in a shared array use."""
    vertices, faces = np.asarray(part.vertices, np.float64), np.asarray(part.faces, np.int64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise MaquetteError("unreadable: its triangles are not [V, 3] and [F, 3]")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MaquetteError(f"index_range: a face points outside its {len(vertices)} vertices")
    used, index = np.unique(faces, return_inverse=True)
    joints, weights = part.joints, part.weights
    if len(vertices) > 2 * len(used):
        vertices, faces = vertices[used], index.reshape(-1, 3)
        joints = None if joints is None else joints[used]
        weights = None if weights is None else weights[used]
        used = np.arange(len(vertices))
    if not np.isfinite(vertices[used]).all():
        raise MaquetteError("non_finite: a vertex is NaN or infinite")
    return Part(
        part.name, part.number, vertices, faces, part.uv, part.material, part.tint, part.paints, joints, weights
    )


def _uv(parts: list[Part]) -> np.ndarray | None:
    if all(part.uv is None for part in parts):
        return None
    each = [np.zeros((len(part.faces), 3, 2), np.float32) if part.uv is None else part.uv for part in parts]
    with np.errstate(over="ignore"):
        uv = np.concatenate([np.asarray(part, np.float32) for part in each])
    return np.where(np.isfinite(uv), uv, np.float32(0))


def _skin(parts: list[Part]) -> tuple[np.ndarray | None, np.ndarray | None]:
    width = max((part.joints.shape[1] for part in parts if part.joints is not None), default=0)
    if not width:
        return None, None
    total = sum(len(part.vertices) for part in parts)
    joints, weights = np.zeros((total, width), np.int32), np.zeros((total, width), np.float32)
    start = 0
    for part in parts:
        end = start + len(part.vertices)
        if part.joints is not None and part.weights is not None:
            joints[start:end, : part.joints.shape[1]] = part.joints
            weights[start:end, : part.weights.shape[1]] = part.weights
        start = end
    return joints, weights


def _turned(skeleton: Skeleton | None, up_axis: str) -> Skeleton | None:
    if skeleton is None or up_axis == "y":
        return skeleton
    turn = np.eye(4)
    turn[:3, :3] = _TURNS[up_axis]
    return Skeleton(skeleton.names, skeleton.parents, turn @ skeleton.rest)
