"""Materials and images in glTF's terms."""

from __future__ import annotations

from typing import Any

from maquette.types import Material, Mesh
from maquette_data3d.exporting.encoded_images import MIME, kind_of
from maquette_data3d.exporting.gltf.buffers import Document, text
from maquette_data3d.ingest.gltf.surfaces import PAINTED

_MODES = {"opaque": "OPAQUE", "mask": "MASK", "blend": "BLEND"}
_STRENGTH, _WEBP = "KHR_materials_emissive_strength", "EXT_texture_webp"


class Surfaces:
    """Materials of one mesh, written when a piece uses them."""

    def __init__(self, document: Document, mesh: Mesh) -> None:
        self._document = document
        self._mesh = mesh
        self._places: dict[int, int] = {}
        self._textures: dict[int, int] = {}

    def place(self, material: int, see_through: bool) -> int:
        """The number of a material in the file; -1 is the plain one that shows vertex colours."""
        if material not in self._places:
            entry = _plain(see_through) if material == -1 else self._entry(self._mesh.materials[material])
            self._places[material] = self._document.add("materials", entry)
        return self._places[material]

    def _entry(self, material: Material) -> dict[str, Any]:
        core: dict[str, Any] = {
            "baseColorFactor": [_share(value) for value in material.base_color],
            "metallicFactor": _share(material.metallic),
            "roughnessFactor": _share(material.roughness),
        }
        entry: dict[str, Any] = {"pbrMetallicRoughness": core, "alphaMode": _MODES[material.alpha_mode]}
        if material.name:
            entry["name"] = text(material.name)
        if material.double_sided:
            entry["doubleSided"] = True
        self._add_emission(entry, material)
        # Without coordinates no texture shows, and a file that names one is broken.
        for role, image in sorted(material.textures.items()) if self._mesh.uv is not None else ():
            reference = {"index": self._texture(image)}
            if role in ("base_color", "metallic_roughness"):
                core["baseColorTexture" if role == "base_color" else "metallicRoughnessTexture"] = reference
            else:
                entry[f"{role}Texture"] = reference
        return entry

    def _add_emission(self, entry: dict[str, Any], material: Material) -> None:
        emissive = [max(float(value), 0.0) for value in material.emissive]
        strength = max(emissive)
        if strength > 1.0:
            entry["extensions"] = {_STRENGTH: {"emissiveStrength": strength}}
            self._document.needs(_STRENGTH, required=False)
            emissive = [value / strength for value in emissive]
        if strength > 0.0:
            entry["emissiveFactor"] = emissive

    def _texture(self, image: int) -> int:
        if image not in self._textures:
            content = self._mesh.images[image]
            kind = kind_of(content)
            source = self._document.add("images", {"bufferView": self._document.view(content), "mimeType": MIME[kind]})
            entry: dict[str, Any] = {"source": source}
            if kind == "webp":
                entry = {"extensions": {_WEBP: {"source": source}}}
                self._document.needs(_WEBP, required=True)
            self._textures[image] = self._document.add("textures", entry)
        return self._textures[image]


def _plain(see_through: bool) -> dict[str, Any]:
    """What stands in for no material: glTF's own default is a dark metal."""
    return {
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        "alphaMode": "BLEND" if see_through else "OPAQUE",
        "extras": {PAINTED: True},
    }


def _share(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)
