"""The textures inside a .glb of ours, as files of their own."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from maquette.errors import MaquetteError
from maquette.image_loading import decoded_image

PLACES = {
    "base_color": ("baseColorTexture", None),
    "metallic": ("metallicRoughnessTexture", "B"),
    "roughness": ("metallicRoughnessTexture", "G"),
    "normal": ("normalTexture", None),
}
"""Names of maps, where a material of glTF has them, and in which channel where it is in one alone."""
_HEADER = struct.Struct("<4sIII4s")


def maps_of(path: Path) -> list[str]:
    """The maps of a file's first material, by name."""
    document, _ = _document(path)
    material: dict[str, Any] = next(iter(document.get("materials", ())), {})
    return [name for name, (key, _) in PLACES.items() if _texture(material, key) is not None]


def map_png(path: Path, name: str) -> bytes:
    """A map of a file's first material as a PNG.

    Raises:
        MaquetteError: it has none of that name, or it cannot be read.
    """
    if name not in maps_of(path):
        raise MaquetteError(f"the mesh has no map '{name}'")
    document, start = _document(path)
    key, channel = PLACES[name]
    texture = document["textures"][_texture(document["materials"][0], key)]
    source = texture.get("source", texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source"))
    view = document["bufferViews"][document["images"][source]["bufferView"]]
    with path.open("rb") as file:
        file.seek(start + view.get("byteOffset", 0))
        data = file.read(view["byteLength"])
    try:
        texels = decoded_image(data, "RGB")
    except MaquetteError as error:
        raise MaquetteError(f"map '{name}' cannot be read: {error}") from None
    out = io.BytesIO()
    Image.fromarray(texels[..., "RGB".index(channel)] if channel else texels).save(out, "PNG")
    return out.getvalue()


def _texture(material: Mapping[str, Any], key: str) -> int | None:
    place = {**material, **material.get("pbrMetallicRoughness", {})}.get(key)
    return None if place is None else int(place["index"])


def _document(path: Path) -> tuple[dict[str, Any], int]:
    """The description in a .glb, and where its buffer begins."""
    with path.open("rb") as file:
        magic, _, _, length, kind = _HEADER.unpack(file.read(_HEADER.size))
        if magic != b"glTF" or kind != b"JSON":
            raise MaquetteError(f"'{path.name}' is no binary glTF")
        return json.loads(file.read(length)), _HEADER.size + length + 8
