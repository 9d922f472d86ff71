"""Finisher ``unwrap``: texture coordinates without overlaps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Asset, Material, Mesh
from maquette_data3d.finishing import charts
from maquette_data3d.finishing.record import recorded
from maquette_data3d.finishing.selection import areas, welded

_SLACK = 1e-4  # how far past the unit square a coordinate may lie and still count as within


@dataclass
class UnwrapConfig:
    """How charts are cut and packed.

    Attributes:
        resolution: side in texels of the texture that the charts are packed for.
        padding: texels kept free between charts.
        keep: leave texture coordinates as they are where the mesh has some.
        largest_faces: beyond this many faces charts take minutes; each face then gets a cell of its own.
    """

    resolution: int = 1024
    padding: int = 4
    keep: bool = False
    largest_faces: int = 400_000


class Unwrap:
    """Gives a mesh an atlas: every point of the surface has a texel of its own.

    Vertices, faces, colours, parts and skin stay. Materials become one: textures no longer fit the new coordinates, so
    ``bake`` brings them over from the asset before.
    """

    def __init__(self, config: UnwrapConfig) -> None:
        if config.resolution < 16 or config.padding < 0:
            raise MaquetteError(
                f"unwrap: resolution {config.resolution} and padding {config.padding}: give at least 16 and 0"
            )
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with ``uv`` [F, 3, 2] in [0, 1] and one material.

        Raises:
            MaquetteError: no face has any area.
        """
        mesh = asset.mesh
        if self.config.keep and mesh.uv is not None and np.ptp(mesh.uv.reshape(-1, 2), axis=0).any():
            return recorded(asset, mesh, "unwrap", {"kept": True}, _doubts(mesh.uv))
        found, warnings = self._charts(mesh)
        one = (Material("unwrapped") if len(mesh.materials) != 1 else replace(mesh.materials[0], textures={}),)
        material = np.zeros(len(mesh.faces), np.int32)
        unwrapped = replace(mesh, uv=found.uv, material=material, materials=one, images=())
        did = {"charts": int(found.chart.max()) + 1, "padding": round(found.padding, 2), "used": _used(found.uv)}
        if any(m.textures for m in mesh.materials) or len(mesh.materials) > 1:
            did["materials_dropped"] = len(mesh.materials)
        return recorded(asset, unwrapped, "unwrap", did, warnings)

    def _charts(self, mesh: Mesh) -> tuple[charts.Charts, list[str]]:
        vertices, faces = welded(mesh)
        if not areas(vertices, faces).any():
            raise MaquetteError("no face of the mesh has any area: there is nothing to unwrap")
        resolution, padding = self.config.resolution, self.config.padding
        if len(faces) <= self.config.largest_faces:
            try:
                found = charts.by_xatlas(vertices, faces, resolution, padding)
            except MaquetteError as error:
                reason = str(error)
            else:
                tight = found.padding < padding
                return found, [f"only {found.padding:.1f} texels between charts: raise the resolution"] if tight else []
        else:
            reason = f"{len(faces)} faces are more than largest_faces={self.config.largest_faces}"
        return charts.cell_a_face(len(faces), resolution, padding), [f"each face is a chart of its own: {reason}"]


def _used(uv: np.ndarray) -> float:
    """Share of the unit square that the faces cover."""
    (ax, ay), (bx, by) = (uv[:, 1] - uv[:, 0]).T.astype(np.float64), (uv[:, 2] - uv[:, 0]).T.astype(np.float64)
    return round(float(np.abs(ax * by - ay * bx).sum() / 2), 3)


def _doubts(uv: np.ndarray) -> list[str]:
    """What makes kept coordinates unfit to bake into."""
    doubts = []
    if uv.min() < -_SLACK or uv.max() > 1 + _SLACK:
        doubts.append("texture coordinates leave the unit square (a texture repeats): nothing can be baked there")
    elif _overlap(uv):
        doubts.append("faces overlap in the texture: what is baked shows on all of them")
    return doubts


def _overlap(uv: np.ndarray) -> bool:
    """Whether clearly more area lies in the atlas than is covered of it."""
    import torch

    from maquette_kernels.ops import rasterise_uv

    corners = torch.arange(uv.size // 2, dtype=torch.int32).view(-1, 3)
    face, _ = rasterise_uv(torch.from_numpy(np.ascontiguousarray(uv)).reshape(-1, 2), corners, 1024, 1024)
    return _used(uv) > 1.02 * float((face >= 0).float().mean()) + 1e-3
