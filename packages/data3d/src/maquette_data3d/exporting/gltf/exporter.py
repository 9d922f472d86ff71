"""An asset as a binary glTF: everything it has, in metres."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from maquette.durable import whole_file
from maquette.errors import MaquetteError, unknown_name
from maquette.types import Asset, Mesh
from maquette_data3d.exporting import metadata
from maquette_data3d.exporting.binding import bound, stilled
from maquette_data3d.exporting.gltf import packing
from maquette_data3d.exporting.gltf.buffers import Document, text
from maquette_data3d.exporting.gltf.skins import Joints
from maquette_data3d.exporting.gltf.surfaces import Surfaces
from maquette_data3d.exporting.pieces import Piece, pieces
from maquette_data3d.exporting.shading_normals import corner_normals
from maquette_data3d.exporting.units import METRES_WHERE_UNKNOWN, scaled, unit_of
from maquette_data3d.ingest.colors import light_of

COMPRESSIONS = ("none", "draco", "meshopt")
SHARP, ROUND = 40.0, 180.0


@dataclass
class GlbConfig:
    """
    Args:
        unit_m: metres a unit of meshes that do not say.
        crease: degrees; edges that bend less are shaded round, the others split their vertices. 0 shades every face
            flat. None is 40 for meshes with materials or texture coordinates; others, as generators give them, are
            round everywhere, so that a closed mesh is closed in the file, too.
        compression: "none", "draco" (KHR_draco_mesh_compression, places rounded, see `draco_bits`) or "meshopt"
            (EXT_meshopt_compression, without loss).
        draco_bits: of a coordinate, over the longest side of a piece.
    """

    unit_m: float = METRES_WHERE_UNKNOWN
    crease: float | None = None
    compression: str = "none"
    draco_bits: int = 17

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise unknown_name("compression", self.compression, COMPRESSIONS)
        if not 1 <= self.draco_bits <= 30:
            raise MaquetteError(f"draco_bits is {self.draco_bits}; it must be between 1 and 30")


class GlbExporter:
    """Parts as nodes with a primitive a material; skins with up to 8 influences; clips; metadata as the asset's extras.

    Colours of vertices are written, in linear light, where a face has no material.
    """

    suffix = ".glb"

    def __init__(self, config: GlbConfig | None = None) -> None:
        self.config = config or GlbConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the file whole or not at all."""
        path = Path(path)
        content = glb(asset, self.config)
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
        return path


def crease_of(mesh: Mesh, config: GlbConfig) -> float:
    """Degrees from which an edge of a mesh is sharp."""
    if config.crease is not None:
        return config.crease
    return SHARP if mesh.materials or mesh.uv is not None else ROUND


def glb(asset: Asset, config: GlbConfig) -> bytes:
    """The bytes of the file."""
    asset = stilled(scaled(asset, unit_of(asset.mesh, config.unit_m)))
    document = Document()
    document.json["scenes"].append({"nodes": []})
    extras = metadata.plain(asset.metadata)
    if extras:
        document.json["asset"]["extras"] = {"maquette": extras}
    writer = _Writer(document, asset.mesh, config)
    for part, found in groupby(
        pieces(asset.mesh, corner_normals(asset.mesh, crease_of(asset.mesh, config))), lambda p: p.part
    ):
        writer.add_part(part, list(found))
    if writer.joints is not None:
        writer.joints.add_clips(asset.animations)
        document.json["scenes"][0]["nodes"].append(writer.joints.root)
    return document.glb()


class _Writer:
    """Adds the parts of one mesh to a document."""

    def __init__(self, document: Document, mesh: Mesh, config: GlbConfig) -> None:
        self._document = document
        self._mesh = mesh
        self._config = config
        self._surfaces = Surfaces(document, mesh)
        self._binding = None if mesh.skin is None else bound(mesh.skin)
        self.joints = None if self._binding is None else Joints(document, self._binding)

    def add_part(self, part: int, found: list[Piece]) -> None:
        """A node with a mesh; skinned where a joint moves any of its vertices."""
        name = text(self._mesh.part_names[part]) if self._mesh.part is not None else ""
        source = np.concatenate([piece.source for piece in found])
        skinned = self._binding is not None and not self._binding.loose[source].all()
        mesh = {"primitives": [self._primitive(piece, skinned) for piece in found]}
        node: dict[str, Any] = {"mesh": self._document.add("meshes", mesh | _named(name)), **_named(name)}
        if skinned and self.joints is not None:
            node["skin"] = self.joints.skin()
        self._document.json["scenes"][0]["nodes"].append(self._document.add("nodes", node))

    def _primitive(self, piece: Piece, skinned: bool) -> dict[str, Any]:
        attributes: dict[str, np.ndarray] = {"POSITION": self._mesh.vertices[piece.source]}
        colors = None if self._mesh.colors is None or piece.material >= 0 else self._mesh.colors[piece.source]
        if piece.normals is not None:
            attributes["NORMAL"] = piece.normals
        if piece.uv is not None:
            attributes["TEXCOORD_0"] = piece.uv
        if colors is not None:
            attributes["COLOR_0"] = linear(colors)
        if skinned and self.joints is not None:
            attributes |= self.joints.attributes(piece.source)
        primitive = packing.primitive(
            self._document, attributes, piece.faces, self._config.compression, self._config.draco_bits
        )
        if piece.material >= 0 or colors is not None:
            see_through = colors is not None and bool((colors[:, 3] < 255).any())
            primitive["material"] = self._surfaces.place(piece.material, see_through)
        return primitive


def linear(colors: np.ndarray) -> np.ndarray:
    """uint16 [N, 4], linear light and opacity as shares of 65535, of sRGB uint8 [N, 4]."""
    light = np.concatenate([light_of(colors[:, :3]), colors[:, 3:] / np.float32(255)], 1)
    return np.round(light.astype(np.float64) * 65535).astype(np.uint16)


def _named(name: str) -> dict[str, str]:
    return {"name": name} if name else {}
