"""Materials in FBX's Phong terms, as Blender reads and writes them: roughness as shininess, metal as reflection."""

from __future__ import annotations

import io

from maquette.image_loading import decoded_image
from maquette.types import Material, Mesh
from maquette_data3d.exporting.encoded_images import as_one_of
from maquette_data3d.exporting.fbx.document import Document

UV_SET = "uv"


class Surfaces:
    """Materials of one mesh, written when a part uses them; images are embedded."""

    def __init__(self, document: Document, mesh: Mesh) -> None:
        self._document = document
        self._mesh = mesh
        self._made: dict[int, int] = {}
        self._images: dict[tuple[int, str], int] = {}

    def number(self, place: int) -> int:
        """The object of a material; -1 is a plain white one, for parts where only some faces have one."""
        if place not in self._made:
            found = Material("none") if place < 0 else self._mesh.materials[place]
            self._made[place] = self._material(found, found.name or f"material_{place}")
        return self._made[place]

    def _material(self, found: Material, name: str) -> int:
        number, record = self._document.add("Material", name, "Material", "")
        record.add("Version", 102)
        record.add("ShadingModel", "phong")
        record.add("MultiLayer", 0)
        opacity = 1.0 if found.alpha_mode == "opaque" else float(found.base_color[3])
        strength = max(*map(float, found.emissive), 1.0)
        glow = tuple(float(value) / strength for value in found.emissive)
        color = tuple(float(value) for value in found.base_color[:3])
        shininess = float((1.0 - found.roughness) * 10.0) ** 2
        values = {"DiffuseFactor": 1.0, "EmissiveFactor": strength, "TransparencyFactor": 1.0 - opacity}
        values |= {"Opacity": opacity, "Shininess": shininess, "ShininessExponent": shininess}
        values |= {"ReflectionFactor": float(found.metallic), "SpecularFactor": 0.25}
        record.properties(
            [
                ("DiffuseColor", "Color", "", "A", color),
                ("EmissiveColor", "Color", "", "A", glow),
                ("TransparentColor", "Color", "", "A", (1.0, 1.0, 1.0)),
                *((key, "Number", "", "A", (value,)) for key, value in values.items()),
            ]
        )
        if self._mesh.uv is not None:
            self._add_textures(number, found)
        return number

    def _add_textures(self, material: int, found: Material) -> None:
        for role, place in {"base_color": "DiffuseColor", "normal": "NormalMap", "emissive": "EmissiveColor"}.items():
            if role in found.textures:
                self._document.connect(self._texture(found.textures[role], ""), material, place)
        # FBX has an image a value: the packed one is taken apart.
        for channel, place in {"g": "ShininessExponent", "b": "ReflectionFactor"}.items():
            if "metallic_roughness" in found.textures:
                texture = self._texture(found.textures["metallic_roughness"], channel)
                self._document.connect(texture, material, place)

    def _texture(self, image: int, channel: str) -> int:
        """A texture of an image, or of one channel of it."""
        if (image, channel) in self._images:
            return self._images[image, channel]
        content, kind = as_one_of(self._mesh.images[image], ("png", "jpg"))
        if channel:
            content, kind = _only(content, channel), "png"
        name = f"image_{image}{channel and '_' + channel}"
        video, record = self._document.add("Video", name, "Video", "Clip")
        record.add("Type", "Clip")
        for key in ("Filename", "RelativeFilename"):
            record.add(key, f"{name}.{kind}")
        record.add("Content", content)
        number, record = self._document.add("Texture", name, "Texture", "")
        record.add("Type", "TextureVideoClip")
        record.add("Version", 202)
        record.add("TextureName", f"{name}\0\1Texture")
        record.add("Media", f"{name}\0\1Video")
        for key in ("FileName", "RelativeFilename"):
            record.add(key, f"{name}.{kind}")
        record.properties([("UVSet", "KString", "", "", (UV_SET,)), ("UseMaterial", "bool", "", "", (1,))])
        self._document.connect(video, number)
        self._images[image, channel] = number
        return number


def _only(content: bytes, channel: str) -> bytes:
    """A grey PNG of one channel of an image."""
    from PIL import Image

    texels = decoded_image(content, "RGB")[..., "rgb".index(channel)]
    out = io.BytesIO()
    Image.fromarray(texels).save(out, "PNG")
    return out.getvalue()
