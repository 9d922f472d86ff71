"""Assets in the unit that a format wants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from maquette.errors import MaquetteError
from maquette.placement import moved
from maquette.types import Asset, Mesh

METRES_WHERE_UNKNOWN = 1.0


def unit_of(mesh: Mesh, otherwise: float = METRES_WHERE_UNKNOWN) -> float:
    """Metres a unit: the mesh's own word, else `otherwise`.

    Raises:
        MaquetteError: a unit that is no length.
    """
    unit = otherwise if mesh.unit_m is None else float(mesh.unit_m)
    if not (np.isfinite(unit) and unit > 0):
        raise MaquetteError(f"unit_m is {unit}; it must be a length in metres above 0, e.g. 0.001 for millimetres")
    return unit


def scaled(asset: Asset, factor: float) -> Asset:
    """Points, joints and clips times a factor; a factor of 1 leaves every bit."""
    if factor == 1.0:
        return asset
    mesh = moved(asset.mesh, factor, np.zeros(3))
    if not np.isfinite(mesh.vertices).all():
        raise MaquetteError(f"mesh does not fit in 32-bit numbers after scaling by {factor:g}; check its unit_m")
    clips = tuple(
        replace(clip, translations=(clip.translations.astype(np.float64) * factor).astype(np.float32))
        for clip in asset.animations
    )
    return replace(asset, mesh=mesh, animations=clips)


def z_up(vertices: np.ndarray) -> np.ndarray:
    """Points [V, 3] turned from y up to z up; what looked along z looks along -y, as it does in slicers."""
    return np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], 1)
