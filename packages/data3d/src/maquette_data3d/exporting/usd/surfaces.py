"""Materials as UsdPreviewSurface networks, bound to the faces that they cover."""

from __future__ import annotations

from typing import Any

import numpy as np

from maquette.types import Material, Mesh
from maquette_data3d.exporting.encoded_images import as_one_of
from maquette_data3d.exporting.usd.names import Names

_FOLDER = "/Asset/Materials"
_CUTOFF = 0.5  # of masks, as in glTF


class Surfaces:
    """Materials of one mesh, defined when a face uses them; `images` are files of the package by name."""

    def __init__(self, stage: Any, mesh: Mesh) -> None:
        self._stage = stage
        self._mesh = mesh
        self._names = Names()
        self._made: dict[int, Any] = {}
        self._files: dict[int, str] = {}
        self.images: dict[str, bytes] = {}

    def bind(self, prim: Any, material: np.ndarray) -> None:
        """Binds a mesh prim's faces int [F] to their materials; -1 shows the colours of vertices."""
        from pxr import UsdGeom, UsdShade, Vt

        used = np.unique(material)
        if any(self._mesh.materials[place].double_sided for place in used if place >= 0):
            prim.CreateDoubleSidedAttr(True)
        if len(used) == 1:
            UsdShade.MaterialBindingAPI.Apply(prim.GetPrim()).Bind(self._material(int(used[0])))
            return
        UsdShade.MaterialBindingAPI.Apply(prim.GetPrim()).SetMaterialBindSubsetsFamilyType(UsdGeom.Tokens.partition)
        for place in used.tolist():
            rows = Vt.IntArray.FromNumpy(np.flatnonzero(material == place).astype(np.int32))
            subset = UsdShade.MaterialBindingAPI(prim.GetPrim()).CreateMaterialBindSubset(
                f"subset_{place}" if place >= 0 else "subset_bare", rows
            )
            UsdShade.MaterialBindingAPI.Apply(subset.GetPrim()).Bind(self._material(place))

    def _material(self, place: int) -> Any:
        if place not in self._made:
            self._made[place] = self._bare() if place == -1 else self._network(place, self._mesh.materials[place])
        return self._made[place]

    def _define(self, name: str) -> tuple[Any, Any]:
        """A material, and the preview surface in it."""
        from pxr import UsdGeom, UsdShade

        UsdGeom.Scope.Define(self._stage, _FOLDER)
        material = UsdShade.Material(self._names.define(self._stage, UsdShade.Material, _FOLDER, name))
        shader = self._shader(material, "Surface", "UsdPreviewSurface")
        material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
        return material, shader

    def _shader(self, material: Any, name: str, kind: str) -> Any:
        from pxr import UsdShade

        shader = UsdShade.Shader.Define(self._stage, material.GetPath().AppendChild(name))
        shader.CreateIdAttr(kind)
        return shader

    def _bare(self) -> Any:
        """Grey, or the colours of vertices."""
        from pxr import Sdf

        material, shader = self._define("vertex_colors")
        shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(1.0)
        color = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
        if self._mesh.colors is not None:
            reader = self._shader(material, "Colors", "UsdPrimvarReader_float3")
            reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
            color.ConnectToSource(reader.ConnectableAPI(), "result", typeName=Sdf.ValueTypeNames.Float3)
        return material

    def _network(self, place: int, found: Material) -> Any:
        from pxr import Sdf

        material, shader = self._define(found.name or f"material_{place}")
        types = Sdf.ValueTypeNames
        inputs = (
            ("diffuseColor", types.Color3f, found.base_color[:3], "base_color", "rgb"),
            ("metallic", types.Float, found.metallic, "metallic_roughness", "b"),
            ("roughness", types.Float, found.roughness, "metallic_roughness", "g"),
            ("emissiveColor", types.Color3f, found.emissive, "emissive", "rgb"),
            ("occlusion", types.Float, 1.0, "occlusion", "r"),
            ("normal", types.Normal3f, (0.0, 0.0, 1.0), "normal", "rgb"),
        )
        for name, kind, value, role, output in inputs:
            source = shader.CreateInput(name, kind)
            if not self._connected(source, material, found, role, output):
                source.Set(value)
        if found.alpha_mode != "opaque":
            opacity = shader.CreateInput("opacity", types.Float)
            if not self._connected(opacity, material, found, "base_color", "a"):
                opacity.Set(found.base_color[3])
        if found.alpha_mode == "mask":
            shader.CreateInput("opacityThreshold", types.Float).Set(_CUTOFF)
        return material

    def _connected(self, source: Any, material: Any, found: Material, role: str, output: str) -> bool:
        """Connects an input to a channel of a texture, where the material has one in that role and it can show."""
        from pxr import Sdf

        if role not in found.textures or self._mesh.uv is None:
            return False
        texture = self._texture(material, found, role)
        kind = Sdf.ValueTypeNames.Float3 if output == "rgb" else Sdf.ValueTypeNames.Float
        source.ConnectToSource(texture.ConnectableAPI(), output, typeName=kind)
        return True

    def _texture(self, material: Any, found: Material, role: str) -> Any:
        from pxr import Sdf, UsdShade

        types, path = Sdf.ValueTypeNames, material.GetPath().AppendChild(role)
        if self._stage.GetPrimAtPath(path):
            return UsdShade.Shader.Get(self._stage, path)
        coordinates = self._shader(material, "Coordinates", "UsdPrimvarReader_float2")
        coordinates.CreateInput("varname", types.String).Set("st")
        texture = self._shader(material, role, "UsdUVTexture")
        texture.CreateInput("file", types.Asset).Set(self._file(found.textures[role]))
        texture.CreateInput("st", types.Float2).ConnectToSource(
            coordinates.ConnectableAPI(), "result", typeName=types.Float2
        )
        for wrap in ("wrapS", "wrapT"):
            texture.CreateInput(wrap, types.Token).Set("repeat")
        srgb = role in ("base_color", "emissive")
        texture.CreateInput("sourceColorSpace", types.Token).Set("sRGB" if srgb else "raw")
        scale, bias = _values(found, role)
        texture.CreateInput("scale", types.Float4).Set(scale)
        texture.CreateInput("bias", types.Float4).Set(bias)
        return texture

    def _file(self, image: int) -> str:
        """The name in the package of an image."""
        if image not in self._files:
            content, kind = as_one_of(self._mesh.images[image], ("png", "jpg"))
            self._files[image] = f"textures/{image}.{kind}"
            self.images[self._files[image]] = content
        return self._files[image]


def _values(found: Material, role: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What texels are multiplied by, and what is added: a material's factors, and normals from [0, 1] to [-1, 1]."""
    scale = {
        "base_color": found.base_color,
        "metallic_roughness": (1.0, found.roughness, found.metallic, 1.0),
        "emissive": (*found.emissive, 1.0),
        "normal": (2.0, 2.0, 2.0, 1.0),
    }.get(role, (1.0, 1.0, 1.0, 1.0))
    return scale, ((-1.0, -1.0, -1.0, 0.0) if role == "normal" else (0.0, 0.0, 0.0, 0.0))
