"""An asset as a USDZ package: UsdPreviewSurface, UsdSkel, metres a unit."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.exporting.binding import Binding, bound, stilled
from maquette_data3d.exporting.pieces import materials_of, parts_of
from maquette_data3d.exporting.shading_normals import corner_normals
from maquette_data3d.exporting.units import METRES_WHERE_UNKNOWN, unit_of
from maquette_data3d.exporting.usd.names import Names
from maquette_data3d.exporting.usd.skeleton import add_clips, add_skeleton, bind
from maquette_data3d.exporting.usd.surfaces import Surfaces
from maquette_data3d.ingest.colors import light_of

_ALIGNMENT = 64
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
_LAYER = "scene.usdc"


@dataclass
class UsdzConfig:
    """
    Args:
        unit_m: metres a unit of meshes that do not say. Coordinates stay, the stage says their unit.
        crease: degrees; edges that bend less are shaded round. 0 shades every face flat.
    """

    unit_m: float = METRES_WHERE_UNKNOWN
    crease: float = 40.0


class UsdzExporter:
    """Parts as meshes with a subset a material; a skeleton; all clips, of which the first plays.

    WebP images become PNG, which is what the package format allows.
    """

    suffix = ".usdz"

    def __init__(self, config: UsdzConfig | None = None) -> None:
        self.config = config or UsdzConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the package whole or not at all.

        Raises:
            MaquetteError: usd-core is not installed, or an image is broken.
        """
        path = Path(path)
        try:
            from pxr import Usd  # noqa: F401
        except ImportError as error:
            raise MaquetteError("USDZ needs the package usd-core (pip install usd-core)") from error
        with tempfile.TemporaryDirectory(prefix="maquette-") as folder:
            images = _write_layer(stilled(asset), Path(folder) / _LAYER, self.config)
            layer = (Path(folder) / _LAYER).read_bytes()
        with whole_file(path) as temporary:
            _pack(temporary, {_LAYER: layer, **images})
        return path


def _write_layer(asset: Asset, path: Path, config: UsdzConfig) -> dict[str, bytes]:
    """Writes the stage; gives the images that lie beside it in the package."""
    from pxr import Gf, Kind, Usd, UsdGeom, UsdSkel

    mesh = asset.mesh
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, unit_of(mesh, config.unit_m))
    kind = UsdGeom.Xform if mesh.skin is None else UsdSkel.Root
    root = kind.Define(stage, "/Asset").GetPrim()
    stage.SetDefaultPrim(root)
    Usd.ModelAPI(root).SetKind(Kind.Tokens.component)
    if asset.metadata.get("prompt"):
        root.SetDocumentation(str(asset.metadata["prompt"]))
    binding = None if mesh.skin is None else bound(mesh.skin)
    if binding is not None:
        add_skeleton(stage, binding)
        add_clips(stage, binding, asset.animations)
    surfaces = Surfaces(stage, mesh)
    normals = corner_normals(mesh, config.crease)
    UsdGeom.Scope.Define(stage, "/Asset/Geometry")
    names = Names()
    order = np.argsort(parts_of(mesh), kind="stable")
    for part, rows in groupby(order.tolist(), lambda row: int(parts_of(mesh)[row])):
        name = mesh.part_names[part] if mesh.part is not None else "mesh"
        prim = names.define(stage, UsdGeom.Mesh, "/Asset/Geometry", name or f"part_{part}")
        _fill(UsdGeom.Mesh(prim), mesh, np.array(list(rows)), normals, surfaces, binding)
    box = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_]).ComputeWorldBound(root)
    extent = box.ComputeAlignedRange()
    UsdGeom.ModelAPI.Apply(root).SetExtentsHint([Gf.Vec3f(extent.GetMin()), Gf.Vec3f(extent.GetMax())])
    stage.GetRootLayer().Save()
    return surfaces.images


def _fill(  # noqa: PLR0917
    prim: Any, mesh: Mesh, rows: np.ndarray, normals: np.ndarray | None, surfaces: Surfaces, binding: Binding | None
) -> None:
    """Geometry, coordinates, colours, materials and weights of one part."""
    from pxr import Sdf, UsdGeom, Vt

    used, index = np.unique(mesh.faces[rows], return_inverse=True)
    points = mesh.vertices[used]
    prim.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    prim.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(rows), 3, np.int32)))
    prim.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(index.reshape(-1).astype(np.int32)))
    prim.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    prim.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([points.min(0), points.max(0)])))
    primvars = UsdGeom.PrimvarsAPI(prim)
    types, face_varying = Sdf.ValueTypeNames, UsdGeom.Tokens.faceVarying
    if normals is not None:
        found = primvars.CreatePrimvar("normals", types.Normal3fArray, face_varying)
        found.Set(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(normals[rows].reshape(-1, 3))))
    if mesh.uv is not None:
        # USD's images stand on their lower left corner.
        uv = (mesh.uv[rows].reshape(-1, 2) * np.float32([1, -1]) + np.float32([0, 1])).astype(np.float32)
        primvars.CreatePrimvar("st", types.TexCoord2fArray, face_varying).Set(Vt.Vec2fArray.FromNumpy(uv))
    if mesh.colors is not None:
        colors = light_of(mesh.colors[used, :3])
        prim.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(Vt.Vec3fArray.FromNumpy(colors))
    surfaces.bind(prim, materials_of(mesh)[rows])
    if binding is not None and not binding.loose[used].all():
        bind(prim, binding, used)


def _pack(path: Path, members: dict[str, bytes]) -> None:
    """A ZIP without compression, the layer first, each member's bytes at a multiple of 64 (USDZ specification)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, _FIRST_DATE)
            start = archive.fp.tell() + 30 + len(name.encode())  # type: ignore[union-attr]
            gap = -start % _ALIGNMENT
            gap += _ALIGNMENT if 0 < gap < 4 else 0  # a field of padding has a head of 4 bytes
            member.extra = b"" if not gap else b"\x86\x19" + (gap - 4).to_bytes(2, "little") + b"\0" * (gap - 4)
            archive.writestr(member, content)
