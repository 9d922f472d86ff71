"""A scene as a safetensors file: how a process that may have been taken over hands over what it has read."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from maquette.errors import MaquetteError
from maquette.json_text import parse_json
from maquette.types import Animation, Material, Skeleton
from maquette_data3d.ingest.scene import Scene

_ARRAYS = ("vertices", "faces", "corner_colors", "material", "part")
_OPTIONAL = ("uv", "joints", "weights")
_SHAPES = {"vertices": (-1, 3), "faces": (-1, 3), "corner_colors": (-1, 3, 3), "uv": (-1, 3, 2)}
_TYPES = {"vertices": "f8", "faces": "i8", "corner_colors": "u1", "uv": "f4", "material": "i4", "part": "i4"}
_CLIP = ("times", "rotations", "translations")


def write_scene(scene: Scene, path: Path) -> None:
    """Writes all of a scene; `read_scene` gives it back."""
    arrays = {name: getattr(scene, name) for name in _ARRAYS}
    arrays |= {name: getattr(scene, name) for name in _OPTIONAL if getattr(scene, name) is not None}
    arrays["images"] = np.frombuffer(b"".join(scene.images), np.uint8)
    if scene.skeleton is not None:
        arrays |= {"parents": scene.skeleton.parents, "rest": scene.skeleton.rest}
    for number, clip in enumerate(scene.animations):
        arrays |= {f"{name}{number}": getattr(clip, name) for name in _CLIP}
    about = {
        "materials": [asdict(material) for material in scene.materials],
        "images": [len(image) for image in scene.images],
        "part_names": scene.part_names,
        "joints": None if scene.skeleton is None else scene.skeleton.names,
        "clips": [clip.name for clip in scene.animations],
        "unit_m": scene.unit_m,
        "up_axis": scene.up_axis,
    }
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path, {"about": json.dumps(about)})


def read_scene(path: Path) -> Scene:
    """The scene of a file, believed in nothing that its readers rely on.

    Raises:
        MaquetteError: "unreadable: ..." for anything that is not a whole, finite, non-empty scene.
    """
    try:
        with safe_open(path, framework="np") as file:
            about = parse_json((file.metadata() or {})["about"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        scene = _scene(about, arrays)
        _check(scene)
        return scene
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        words = " ".join(str(error).split())[:120]
        raise MaquetteError(f"unreadable: what was read of it is no scene ({words})") from None


def _scene(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Scene:
    ends = np.cumsum([0, *about["images"]])
    if len(arrays["images"]) != ends[-1]:
        raise ValueError("its images are not as long as they should be")
    images = tuple(arrays["images"][a:b].tobytes() for a, b in pairwise(ends))
    skeleton = None
    if about["joints"] is not None:
        skeleton = Skeleton(tuple(map(str, about["joints"])), arrays["parents"], arrays["rest"])
    clips = tuple(
        Animation(str(name), *(arrays[f"{key}{number}"] for key in _CLIP)) for number, name in enumerate(about["clips"])
    )
    return Scene(
        **{name: arrays[name] for name in _ARRAYS},
        **{name: arrays.get(name) for name in _OPTIONAL},
        materials=tuple(_material(entry) for entry in about["materials"]),
        images=images,
        part_names=tuple(map(str, about["part_names"])),
        skeleton=skeleton,
        unit_m=None if about["unit_m"] is None else float(about["unit_m"]),
        up_axis=str(about["up_axis"]),
        animations=clips,
    )


def _material(entry: dict[str, Any]) -> Material:
    textures = {str(role): int(place) for role, place in entry.pop("textures").items()}
    color, emissive = tuple(map(float, entry.pop("base_color"))), tuple(map(float, entry.pop("emissive")))
    return Material(**entry, base_color=color, emissive=emissive, textures=textures)  # type: ignore[arg-type]


def _check(scene: Scene) -> None:
    for name, kind in _TYPES.items():
        array = getattr(scene, name)
        shape = _SHAPES.get(name, (-1,))
        if array is None:
            continue
        if array.dtype != np.dtype(kind) or array.ndim != len(shape) or array.shape[1:] != shape[1:]:
            raise ValueError(f"'{name}' is {array.dtype} {list(array.shape)}")
    faces = len(scene.faces)
    if not faces or any(len(a) != faces for a in (scene.corner_colors, scene.material, scene.part)):
        raise ValueError("its faces differ in number, or there are none")
    if scene.uv is not None and len(scene.uv) != faces:
        raise ValueError("its faces differ in number")
    _within("faces", scene.faces, 0, len(scene.vertices))
    _within("material", scene.material, -1, len(scene.materials))
    _within("part", scene.part, 0, len(scene.part_names))
    for material in scene.materials:
        _within("textures", np.array([*material.textures.values()], np.int64), 0, len(scene.images))
    if not np.isfinite(scene.vertices[scene.faces]).all():
        raise ValueError("a corner is not finite")
    if scene.skeleton is not None:
        _check_skeleton(scene, scene.skeleton)
    count = 0 if scene.skeleton is None else len(scene.skeleton.names)
    for clip in scene.animations:
        frames = (len(clip.times), count)
        if clip.rotations.shape != (*frames, 4) or clip.translations.shape != (*frames, 3):
            raise ValueError(f"the frames of '{clip.name}' differ in number")


def _check_skeleton(scene: Scene, skeleton: Skeleton) -> None:
    count = len(skeleton.names)
    if skeleton.parents.shape != (count,) or skeleton.rest.shape != (count, 4, 4):
        raise ValueError("its joints differ in number")
    _within("parents", skeleton.parents, -1, count)
    above = skeleton.parents
    for _ in range(count.bit_length()):  # each time twice as far up
        above = np.where(above < 0, -1, above[above])
    if (above >= 0).any():
        raise ValueError("its joints go round in a circle")
    if scene.joints is not None and scene.weights is not None:
        if scene.joints.shape != scene.weights.shape or scene.joints.shape[:-1] != (len(scene.vertices),):
            raise ValueError("its vertices' joints differ in number")
        _within("joints", scene.joints, 0, count)


def _within(name: str, places: np.ndarray, lowest: int, end: int) -> None:
    if not np.issubdtype(places.dtype, np.integer):
        raise ValueError(f"'{name}' is {places.dtype}")
    if places.size and not (lowest <= places.min() and places.max() < end):
        raise ValueError(f"'{name}' points outside of {end}")
