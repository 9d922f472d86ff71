"""glTF materials in the scene's terms: factors, images, and which coordinates their textures use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.types import Material
from maquette_data3d.ingest.gltf.document import Document
from maquette_data3d.ingest.pictures import Pictures

PAINTED = "maquette_vertex_colors"
_OLD = "KHR_materials_pbrSpecularGlossiness"
_TRANSFORM = "KHR_texture_transform"
_STRENGTH = "KHR_materials_emissive_strength"


@dataclass(frozen=True)
class Surface:
    """A material, the set of coordinates with its affine map [2, 3] that address all its textures, and whether it is
    only there for the colors of vertices, as this project's own exporter marks what has no material."""

    material: Material
    uv_set: int = 0
    uv_map: tuple[float, ...] | None = None
    painted: bool = False

    def mapped(self, uv: np.ndarray) -> np.ndarray:
        """Coordinates [..., 2] as the textures want them."""
        if self.uv_map is None:
            return uv
        affine = np.asarray(self.uv_map).reshape(2, 3)
        return uv @ affine[:, :2].T + affine[:, 2]


def surfaces(document: Document, pictures: Pictures) -> list[Surface]:
    """One a material of the file, in its order."""
    return [_surface(document, pictures, entry) for entry in document.entries("materials")]


def _surface(document: Document, pictures: Pictures, entry: dict[str, Any]) -> Surface:
    core, extensions = entry.get("pbrMetallicRoughness", {}), entry.get("extensions", {})
    metallic, roughness = float(core.get("metallicFactor", 1.0)), float(core.get("roughnessFactor", 1.0))
    color, texture = core.get("baseColorFactor"), core.get("baseColorTexture")
    if _OLD in extensions:
        # Written beside or instead of the core's values; where only the old ones are there, diffuse is base colour.
        old = extensions[_OLD]
        if "pbrMetallicRoughness" not in entry:
            metallic, roughness = 0.0, 1.0 - float(old.get("glossinessFactor", 1.0))
        color = old.get("diffuseFactor") if color is None else color
        texture = old.get("diffuseTexture") if texture is None else texture
    infos = {
        "base_color": texture,
        "metallic_roughness": core.get("metallicRoughnessTexture"),
        "normal": entry.get("normalTexture"),
        "occlusion": entry.get("occlusionTexture"),
        "emissive": entry.get("emissiveTexture"),
    }
    textures, uv_set, uv_map = _textures(document, pictures, infos)
    strength = float(extensions.get(_STRENGTH, {}).get("emissiveStrength", 1.0))
    red, green, blue, opacity = _floats(color, (1.0, 1.0, 1.0, 1.0))
    emitted = _floats(entry.get("emissiveFactor"), (0.0, 0.0, 0.0))
    material = Material(
        name=str(entry.get("name", "")),
        base_color=(red, green, blue, opacity),
        metallic=min(max(metallic, 0.0), 1.0),
        roughness=min(max(roughness, 0.0), 1.0),
        emissive=(emitted[0] * strength, emitted[1] * strength, emitted[2] * strength),
        alpha_mode={"MASK": "mask", "BLEND": "blend"}.get(str(entry.get("alphaMode")), "opaque"),
        double_sided=bool(entry.get("doubleSided", False)),
        textures=textures,
    )
    extras = entry.get("extras")
    return Surface(material, uv_set, uv_map, isinstance(extras, dict) and PAINTED in extras)


def _floats(found: Any, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    if not isinstance(found, list) or len(found) != len(otherwise):
        return otherwise
    values = tuple(float(value) for value in found)
    return values if all(math.isfinite(value) for value in values) else otherwise


def _textures(
    document: Document, pictures: Pictures, infos: dict[str, Any]
) -> tuple[dict[str, int], int, tuple[float, ...] | None]:
    """Images by role, with the coordinates of the first of them.

    A scene has one set of coordinates: a texture that is addressed in another way than the base color is left out.
    """
    textures: dict[str, int] = {}
    chosen: tuple[int, tuple[float, ...] | None] | None = None
    for role, info in infos.items():
        place = None if not isinstance(info, dict) else _image(document, pictures, info)
        if place is None:
            continue
        coordinates = _coordinates(info)
        chosen = chosen or coordinates
        if coordinates == chosen:
            textures[role] = place
    return textures, *(chosen or (0, None))


def _coordinates(info: dict[str, Any]) -> tuple[int, tuple[float, ...] | None]:
    uv_set = int(info.get("texCoord", 0))
    change = info.get("extensions", {}).get(_TRANSFORM)
    if not change:
        return uv_set, None
    (x, y), (across, down) = _floats(change.get("offset"), (0.0, 0.0)), _floats(change.get("scale"), (1.0, 1.0))
    turn = float(change.get("rotation", 0.0))
    cos, sin = (math.cos(turn), math.sin(turn)) if math.isfinite(turn) else (1.0, 0.0)
    # Counter-clockwise as seen on the image, whose v grows downwards.
    return int(change.get("texCoord", uv_set)), (cos * across, sin * down, x, -sin * across, cos * down, y)


def _image(document: Document, pictures: Pictures, info: dict[str, Any]) -> int | None:
    texture = document.entry("textures", info.get("index"))
    sources = [texture, texture.get("extensions", {}).get("EXT_texture_webp", {})]
    for place in (source["source"] for source in sources if "source" in source):
        content = document.content(document.entry("images", place))
        found = pictures.add(content) if content else None
        if found is not None:
            return found
    return None
