"""Finisher ``bake``: the materials of a detailed mesh as textures of a simpler, unwrapped one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.assets import import_asset
from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.baking import bake
from maquette_data3d.finishing.record import recorded

_NEAR = 0.02  # of the box's longest side: texels farther from the source are counted
_APART = 0.1  # of it, by which the boxes of source and target may differ


@dataclass
class BakeConfig:
    """What is baked, and from where.

    Attributes:
        resolution: side of the textures.
        source: a mesh file in the same place and unit; without it the asset as it was before the first step.
        normal: bake a normal map where the source's shading differs from the target's.
        occlusion: bake ambient occlusion.
        directions: that occlusion is looked at from.
    """

    resolution: int = 1024
    source: str | None = None
    normal: bool = True
    occlusion: bool = False
    directions: int = 96


class Bake:
    """Base colour, metallic, roughness, emission, normals (tangent space, MikkTSpace) and occlusion of a source."""

    def __init__(self, config: BakeConfig) -> None:
        if not 16 <= config.resolution <= 8192 or config.directions < 1:
            raise MaquetteError(
                f"bake: resolution is {config.resolution} and directions {config.directions}: 16-8192 and at least 1"
            )
        self.config = config
        self._source = import_asset(config.source) if config.source else None

    def use_source(self, asset: Asset) -> None:
        """What ``finish`` was given before its first step; a source of the config goes before it."""
        self._source = self._source or asset

    def __call__(self, asset: Asset) -> Asset:
        """The asset with one material and its textures; vertex colours go, the textures show them.

        Raises:
            MaquetteError: no source, one that lies elsewhere, or no texture coordinates.
        """
        if self._source is None:
            raise MaquetteError("nothing to bake from: give source=FILE, or bake after other steps")
        source, config = self._source.mesh, self.config
        side = _check_place(asset.mesh, source)
        occlusion = config.directions if config.occlusion else 0
        mesh, texels = bake(asset.mesh, source, config.resolution, normal=config.normal, occlusion=occlusion)
        far = float((texels.distance > _NEAR * side).mean())
        warnings = [f"{far:.1%} of the texels lie over 2 % of the size from the source"] if far > 0.01 else []
        did = {"resolution": config.resolution, "maps": sorted(mesh.materials[0].textures)}
        return recorded(asset, mesh, "bake", did, warnings)


def _check_place(target: Mesh, source: Mesh) -> float:
    """The longest side of the source's box.

    Raises:
        MaquetteError: the boxes differ.
    """
    boxes = [np.stack([m.vertices[m.faces].min((0, 1)), m.vertices[m.faces].max((0, 1))]) for m in (target, source)]
    side = float(np.ptp(boxes[1], axis=0).max())
    if np.abs(boxes[0] - boxes[1]).max() > _APART * side:
        raise MaquetteError("source and mesh lie in different places: bake before steps that move or scale")
    return side
