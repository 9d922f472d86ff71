"""Finishers ``units``, ``up_axis`` and ``origin``: how large an asset is, what is up, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from maquette.errors import MaquetteError
from maquette.placement import moved
from maquette.types import Animation, Asset, Mesh, Skeleton, Skin
from maquette_data3d.exporting.units import scaled
from maquette_data3d.finishing.record import recorded

ALONG = {"longest": None, "width": 0, "height": 1, "depth": 2}
PLACES = {"bottom": 0.0, "centre": 0.5, "top": 1.0}
_TURNS = {
    "x": ("z", 90.0),
    "-x": ("z", -90.0),
    "y": ("x", 0.0),
    "-y": ("x", 180.0),
    "z": ("x", -90.0),
    "-z": ("x", 90.0),
}


@dataclass
class UnitsConfig:
    """How large the thing is.

    Attributes:
        size_m: metres along ``along``; None leaves the size as it is.
        along: "longest" side of the box, or its "width" (x), "height" (y) or "depth" (z).
        unit_m: metres a unit of the numbers: 1.0 is metres, 0.001 millimetres.
    """

    size_m: float | None = None
    along: str = "longest"
    unit_m: float = 1.0


class Units:
    """Gives an asset a size in metres, and its numbers a unit; joints and clips follow."""

    def __init__(self, config: UnitsConfig) -> None:
        if config.along not in ALONG or not config.unit_m > 0 or (config.size_m is not None and not config.size_m > 0):
            raise MaquetteError(
                f"units: size_m {config.size_m} along '{config.along}', unit_m {config.unit_m}: give lengths above "
                f"0 and one of {', '.join(ALONG)}"
            )
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with ``unit_m`` and its points in it.

        Raises:
            MaquetteError: neither the mesh says its unit nor the step a size, or the mesh has no extent.
        """
        config, mesh = self.config, asset.mesh
        box = np.ptp(_used(mesh), axis=0)
        side = float(box.max() if ALONG[config.along] is None else box[ALONG[config.along]])
        if config.size_m is not None:
            if not side > 0:
                raise MaquetteError(f"the mesh has no {config.along} to make {config.size_m} m of")
            factor = config.size_m / side / config.unit_m
        elif mesh.unit_m is not None:
            factor = mesh.unit_m / config.unit_m
        else:
            raise MaquetteError("nobody knows how large the mesh is: give size_m, e.g. size_m=0.8,along=height")
        out = scaled(asset, factor)
        mesh = replace(out.mesh, unit_m=config.unit_m)
        size = [round(float(length) * config.unit_m, 6) for length in np.ptp(_used(mesh), axis=0)]
        return recorded(out, mesh, "units", {"unit_m": config.unit_m, "size_m": size})


@dataclass
class UpAxisConfig:
    """``up``: the direction that is up now: "x", "y", "z" or one of them with a minus."""

    up: str = "z"


class UpAxis:
    """Turns an asset so that y is up, for files that lie on their side."""

    def __init__(self, config: UpAxisConfig) -> None:
        if config.up not in _TURNS:
            raise MaquetteError(f"up_axis: up is '{config.up}', not one of {', '.join(_TURNS)}")
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The turned asset; joints and clips follow."""
        axis, degrees = _TURNS[self.config.up]
        turned = _turned(asset, Rotation.from_euler(axis, degrees, degrees=True))
        return recorded(turned, turned.mesh, "up_axis", {"was_up": self.config.up})


@dataclass
class OriginConfig:
    """``at``: what of the box comes to the origin: its "centre", or the middle of its "bottom" or "top"."""

    at: str = "bottom"


class Origin:
    """Moves an asset so that it stands on the ground, hangs or floats around the origin."""

    def __init__(self, config: OriginConfig) -> None:
        if config.at not in PLACES:
            raise MaquetteError(f"origin: at is '{config.at}', not one of {', '.join(PLACES)}")
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The moved asset; joints and clips follow."""
        points = _used(asset.mesh)
        low, high = points.min(0), points.max(0)
        share = np.array([0.5, PLACES[self.config.at], 0.5])
        offset = -(low + share * (high - low))
        mesh = moved(asset.mesh, 1.0, offset)
        clips = tuple(_root_moved(clip, mesh, offset) for clip in asset.animations)
        return recorded(replace(asset, mesh=mesh, animations=clips), mesh, "origin", {"at": self.config.at})


def _used(mesh: Mesh) -> np.ndarray:
    return mesh.vertices[np.unique(mesh.faces)].astype(np.float64)


def _roots(mesh: Mesh) -> np.ndarray:
    assert mesh.skin is not None  # clips have one
    return mesh.skin.skeleton.parents < 0


def _root_moved(clip: Animation, mesh: Mesh, offset: np.ndarray) -> Animation:
    places = clip.translations.astype(np.float64)
    places[:, _roots(mesh)] += offset
    return replace(clip, translations=places.astype(np.float32))


def _turned(asset: Asset, turn: Rotation) -> Asset:
    matrix = turn.as_matrix().round(15)
    mesh, skin = asset.mesh, asset.mesh.skin
    if skin is not None:
        rest = skin.skeleton.rest.copy()
        rest[:, :3] = matrix @ rest[:, :3]
        skin = Skin(Skeleton(skin.skeleton.names, skin.skeleton.parents, rest), skin.joints, skin.weights)
    mesh = replace(mesh, vertices=(mesh.vertices @ matrix.T).astype(np.float32), skin=skin)
    clips = []
    for clip in asset.animations:
        roots = _roots(mesh)
        places, rotations = clip.translations.astype(np.float64), clip.rotations.astype(np.float64)
        places[:, roots] = places[:, roots] @ matrix.T
        for joint in np.flatnonzero(roots):
            rotations[:, joint] = (turn * Rotation.from_quat(rotations[:, joint])).as_quat()
        clips.append(replace(clip, translations=places.astype(np.float32), rotations=rotations.astype(np.float32)))
    return replace(asset, mesh=mesh, animations=tuple(clips))
