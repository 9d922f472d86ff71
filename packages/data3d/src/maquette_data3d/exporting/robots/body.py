"""What a simulator has to know of a thing: looks, hulls, mass. Metres, x forward, y left, z up (REP 103)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.exporting.units import METRES_WHERE_UNKNOWN, scaled, unit_of

_AXES = [2, 0, 1]  # of the mesh (x left, y up, z forward) in the order of x, y and z
WATER = 1000.0
"""Kilograms a cubic metre."""


@dataclass
class BodyConfig:
    """
    Args:
        unit_m: metres a unit of meshes that do not say.
        density: kg a cubic metre, where the finishing step `inertia` has not said what the body weighs.
        fixed: it stands still; otherwise it moves freely (MJCF alone can say so).
    """

    unit_m: float = METRES_WHERE_UNKNOWN
    density: float = WATER
    fixed: bool = False

    def __post_init__(self) -> None:
        if not self.density > 0:
            raise MaquetteError(f"density is {self.density}; it must be above 0, in kg a cubic metre")


@dataclass(frozen=True)
class Body:
    """A rigid thing.

    Attributes:
        visual: what is seen, without skin.
        hulls: convex pieces that touch others.
        mass: kg.
        centre: float64 [3], of mass.
        inertia: float64 [3, 3], about the centre, kg m^2.
    """

    visual: Mesh
    hulls: tuple[Mesh, ...]
    mass: float
    centre: np.ndarray
    inertia: np.ndarray


def body_of(asset: Asset, config: BodyConfig) -> Body:
    """The body of an asset: hulls and mass of the finishers `collision` and `inertia`, where they were there.

    Without the first the hull is that of the whole, without the second the hulls are filled.

    Raises:
        MaquetteError: a flat mesh, which has no volume.
    """
    unit = unit_of(asset.mesh, config.unit_m)
    visual = _turned(replace(scaled(asset, unit).mesh, skin=None))
    hulls = tuple(_turned(scaled(Asset(hull), unit).mesh) for hull in hulls_of(asset)) or (hull_around(visual),)
    mass, centre, inertia = told_mass(asset, unit / unit_of(asset.mesh)) or mass_of(hulls, config.density)
    return Body(visual, hulls, mass, centre, inertia)


def told_mass(asset: Asset, scale: float) -> tuple[float, np.ndarray, np.ndarray] | None:
    """What the finisher `inertia` has left in the metadata, turned; `scale` is what it took lengths too small by."""
    found: Mapping[str, Any] | None = asset.metadata.get("inertia")
    if found is None:
        return None
    centre, tensor = np.asarray(found["centre"])[_AXES], np.asarray(found["inertia"])[np.ix_(_AXES, _AXES)]
    return float(found["mass"]) * scale**3, centre * scale, tensor * scale**5


def hulls_of(asset: Asset) -> list[Mesh]:
    """The convex pieces that a finishing step has left in the metadata, in the mesh's own unit and axes."""
    found: Sequence[Mapping[str, Any]] = asset.metadata.get("collision", ())
    return [Mesh(np.asarray(hull["vertices"]), np.asarray(hull["faces"])) for hull in found]


def hull_around(mesh: Mesh) -> Mesh:
    """The convex hull of a mesh, faces outwards."""
    from scipy.spatial import ConvexHull, QhullError

    points = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    try:
        hull = ConvexHull(points)
    except QhullError as error:
        raise MaquetteError("a flat mesh has no volume and weighs nothing; give it thickness first") from error
    corners = points[hull.simplices]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inwards = (across * hull.equations[:, :3]).sum(1) < 0
    faces = np.where(inwards[:, None], hull.simplices[:, ::-1], hull.simplices)
    used, index = np.unique(faces, return_inverse=True)
    return Mesh(points[used], index.reshape(-1, 3))


def mass_of(hulls: Sequence[Mesh], density: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre float64 [3] and inertia about it [3, 3] of solid pieces that do not overlap."""
    import trimesh

    solids = [trimesh.Trimesh(hull.vertices, hull.faces, process=False).mass_properties for hull in hulls]
    masses = np.array([abs(solid.volume) * density for solid in solids])
    if not masses.sum() > 0:
        raise MaquetteError("the collision hulls have no volume; run the collision step anew or leave it out")
    centres = np.stack([solid.center_mass for solid in solids])
    centre = (masses[:, None] * centres).sum(0) / masses.sum()
    inertia = np.zeros((3, 3))
    for solid, mass, place in zip(solids, masses, centres - centre, strict=True):
        # Steiner's theorem moves each piece's tensor to the common centre.
        inertia += np.asarray(solid.inertia) * density + mass * (place @ place * np.eye(3) - np.outer(place, place))
    return float(masses.sum()), centre, inertia


def _turned(mesh: Mesh) -> Mesh:
    return replace(mesh, vertices=np.ascontiguousarray(mesh.vertices[:, _AXES]))
